// The API's objects as the page uses them, and what a model's own views consist of.
import type { ComponentType } from "preact";

export type Status = "starting" | "processing" | "succeeded" | "failed" | "canceled";
export type Values = Record<string, unknown>;

export interface Prediction {
  id: string;
  model: string; // owner/name
  version: string;
  status: Status;
  input: Values;
  output: unknown;
  error: string | null;
  logs: string;
  data_removed: boolean;
  created_at: string;
  metrics: ({ predict_time?: number } & Record<string, unknown>) | null;
  urls: { stream: string };
}

export interface PageOfPredictions {
  results: Prediction[];
  next: string | null;
}

/** The part of JSON Schema that Cog uses for an input. */
export interface Schema {
  type?: string;
  title?: string;
  format?: string;
  properties?: Record<string, Schema>;
  description?: string;
  default?: unknown;
  minimum?: number;
  maximum?: number;
  enum?: (string | number)[];
  allOf?: Schema[];
  anyOf?: Schema[];
  $ref?: string;
  "x-order"?: number;
}

export interface Version {
  id: string;
  openapi_schema: {
    components: {
      schemas: { Input: { properties?: Record<string, Schema>; required?: string[] } } & Record<string, Schema>;
    };
  };
}

export interface Model {
  owner: string;
  name: string;
  description: string;
  latest_version: Version;
  default_example?: { input: Values } | null;
  page?: string; // the folder below models/ with this model's views
}

/** An input of a version, for the form. */
export interface Input {
  name: string;
  label: string; // the schema's title
  type: string;
  isFile: boolean;
  description: string;
  choices?: (string | number)[];
  initial: unknown; // the schema's default
  minimum?: number;
  maximum?: number;
  order: number;
  required: boolean;
}

/** What the fields of a form show, by input. */
export type Draft = Record<string, string | boolean>;

/** What a model's preview server says about an input, in addition to fields of its own. */
export interface Preview {
  errors: Record<string, string>;
}

/**
 * The default export of models/NAME/index.js. All parts are optional. The page uses its generic part in place of a
 * missing one. styles/NAME.css is loaded with it.
 */
export interface View {
  /** Labels of inputs in place of the schema's titles, by input. */
  labels?: Record<string, string>;
  /** The order of the inputs, and which are folded away. Inputs that aren't named go to the last group. */
  groups?: InputGroup[];
  /** Inputs to start with. */
  examples?: Values[];
  /** Descriptions of inputs in place of the schema's, by input. */
  help?: Record<string, string>;
  /** Controls of its own, by input. */
  controls?: Record<string, ComponentType<ControlProps>>;
  /** What is drawn below each field. Only views with a Hint ask the model's preview server. */
  Hint?: ComponentType<{ name: string; preview: Preview; text: string }>;
  /** Sum up an input for the history. */
  summary?(input: Values): string | undefined;
  /** Called when the user starts a run: browsers let a page play sound only after a click or a key. */
  onRun?(): void;
  /**
   * What else to say about a prediction. `again` are inputs that a button, with the label, puts into the form; `next` are
   * inputs of another model, the first that has them all, and the button turns to it.
   */
  facts?(prediction: Prediction): { text: string; label?: string; again?: Values; next?: Values }[];
  /** Describe how far a run is. */
  progress?(input: Values, at: { done: number; total: number }): string;
  /** Whether Output can show an output. */
  shows?(output: unknown): boolean;
  Output?: ComponentType<OutputProps>;
  /** A class for thumbnails in the history. */
  thumbnailClass?: string;
  /** What can be done with the predictions in the history, newest first. */
  Recent?: ComponentType<{ predictions: Prediction[] }>;
  /** Panels in addition to the form. */
  modes?: { name: string; load(): Promise<ComponentType<PanelProps>> }[];
}

export interface InputGroup {
  title: string;
  inputs: string[];
  folded?: boolean | "on phones";
}

export interface ControlProps {
  input: Input;
  value: any; // a string, or a boolean for a checkbox
  attributes: { id: string; name: string; [aria: string]: string | undefined };
  onChange(value: string | boolean): void;
}

export interface OutputProps {
  prediction: Prediction;
  model: Model;
  fresh: boolean; // whether the user has just run it
  pinned: Prediction | null; // for comparison
  onPin(prediction: Prediction | null): void;
}

export interface PanelProps {
  version: Version;
  input: Values;
  onNews(prediction: Prediction): void; // of a prediction that the panel has made
  onClose(): void;
}

declare global {
  /** What scripts on the browser's audio thread have; TypeScript's own libraries lack it. */
  class AudioWorkletProcessor {
    readonly port: MessagePort;
  }
  function registerProcessor(name: string, processor: typeof AudioWorkletProcessor): void;

  /** What plays, for tests and for the browser's console. */
  var playground: {
    context: AudioContext | null;
    volume: GainNode | null;
    player: { playing: boolean; place_s: number } | null;
    scheduled: { at_s: number; until_s: number; repeated: boolean }[];
  };
}

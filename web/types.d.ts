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
  metrics: { predict_time?: number } | null;
  urls: { stream: string };
}

export interface PageOfPredictions {
  results: Prediction[];
  next: string | null;
}

/** The part of JSON Schema that Cog uses for an input. */
export interface Schema {
  type?: string;
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
  page?: string; // the folder below models/ with this model's views
}

/** An input of a version, for the form. */
export interface Input {
  name: string;
  type: string;
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
  /** Descriptions of inputs in place of the schema's, by input. */
  help?: Record<string, string>;
  /** Controls of its own, by input. */
  controls?: Record<string, ComponentType<ControlProps>>;
  /** What is drawn below each field. Only views with a Hint ask the model's preview server. */
  Hint?: ComponentType<{ name: string; preview: Preview }>;
  /** Sum up an input for the history. */
  summary?(input: Values): string | undefined;
  /** Called when the user starts a run: browsers let a page play sound only after a click or a key. */
  onRun?(): void;
  /** Whether Output and Thumbnail can show an output. */
  shows?(output: unknown): boolean;
  Output?: ComponentType<OutputProps>;
  Thumbnail?: ComponentType<{ output: any; mark: string }>;
  /** Panels in addition to the form. */
  modes?: { name: string; Panel: ComponentType<PanelProps> }[];
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
  predictions: Prediction[]; // the history, newest first
  fresh: boolean; // whether the user has just run it
  pinned: Prediction | null; // for comparison
  onPin(prediction: Prediction | null): void;
}

export interface PanelProps {
  version: Version;
  input: Values;
  onClose(): void;
}

declare global {
  /** What plays, for tests and for the browser's console. */
  var playground: {
    context: AudioContext | null;
    volume: GainNode | null;
    player: { playing: boolean; place_s: number } | null;
    scheduled: { at_s: number; until_s: number; repeated: boolean }[];
  };
}

// The form of a model, what runs it, its settings as a file, and the request as code.
import { html, useEffect, useState } from "./vendor/htm-preact-3.1.1.js";
import { hasEnded, nameOf } from "./api.js";
import { FileButton } from "./file.js";
import { Form, toDraft } from "./form.js";
import { rejectedBy, useShortcuts } from "./run.js";
import { usePreview } from "./view.js";
/** @import { ComponentType } from "preact" */
/** @import { Draft, Input, Model, Prediction, Values, View } from "./types.js" */

/**
 * @param {object} props
 * @param {Model} props.model
 * @param {View} props.view
 * @param {{ inputs: Input[], draft: Draft, input: Values, setDraft: (draft: Draft) => void }} props.form
 * @param {ReturnType<typeof import("./run.js").useRun>} props.runs
 * @param {Prediction | null} props.prediction
 * @param {string} props.mode
 * @param {(mode: string) => void} props.onMode
 */
export function Ask({ model, view, form, runs, prediction, mode, onMode }) {
  const { inputs, draft, input } = form;
  const { preview, isCurrent } = usePreview(model, input, Boolean(view.Hint));
  const rejected = rejectedBy(prediction, inputs, input);
  const errors = { ...(isCurrent ? preview?.errors : {}), ...rejected, ...runs.errors };
  const run = () => {
    view.onRun?.();
    void runs.run(model.latest_version, input);
  };
  const cancel = () => runs.cancel(prediction);
  useShortcuts({ onRun: run, onCancel: cancel });
  useEffect(() => {
    const [name] = Object.keys(runs.errors);
    if (name) document.getElementById(`input-${name}`)?.focus();
  }, [runs.errors]);
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    run();
  };
  /** @param {Draft} changed */
  const change = (changed) => {
    form.setDraft(changed);
    runs.clear();
  };
  const settings = useSettings({
    model,
    inputs,
    onLoad: (values) => change(toDraft(inputs, values)),
    onError: runs.fail,
  });
  return html`<section class="ask" aria-labelledby="ask-title" ...${settings.drop}>
    <div class="field-head">
      <h2 id="ask-title">${model.name.replaceAll("_", " ")}</h2>
      <button type="button" class="quiet" onClick=${() => change(toDraft(inputs))}>Reset all</button>
    </div>
    <p class="about lead">${model.description}</p>
    <form onSubmit=${submit} noValidate>
      <${Form}
        key=${nameOf(model)}
        view=${view}
        inputs=${inputs}
        draft=${draft}
        errors=${errors}
        preview=${preview}
        onChange=${change}
      />
      <${RunBar}
        view=${view}
        mode=${mode}
        running=${prediction && !hasEnded(prediction)}
        onCancel=${cancel}
        onMode=${onMode}
        problem=${runs.problem}
      />
    </form>
    <${SettingsFile} model=${model} input=${input} onLoad=${settings.load} />
    <${Code} model=${model} input=${input} output=${prediction?.model === nameOf(model) ? prediction.output : null} />
  </section>`;
}

/**
 * @param {object} props
 * @param {View} props.view
 * @param {string} props.mode
 * @param {boolean} props.running
 * @param {() => void} props.onCancel
 * @param {(mode: string) => void} props.onMode
 * @param {string} props.problem
 */
function RunBar({ view, mode, running, onCancel, onMode, problem }) {
  return html`<div class="controls run">
    ${problem && html`<p class="error" role="alert">${problem}</p>`}
    <button class="primary" aria-keyshortcuts="Control+Enter">Run <kbd aria-hidden="true">Ctrl ↵</kbd></button>
    ${
      running &&
      html`<button type="button" onClick=${onCancel} aria-keyshortcuts="Escape">
      Cancel <kbd aria-hidden="true">Esc</kbd>
    </button>`
    }
    ${view.modes?.map(
      ({ name }) =>
        html`<button type="button" key=${name} onClick=${() => onMode(name)} disabled=${name === mode}>
          ${name}
        </button>`,
    )}
  </div>`;
}

/**
 * The request as code. Its module is loaded when it is first opened.
 * @param {{ model: Model, input: Values, output: unknown }} props
 */
function Code(props) {
  const [Programs, setPrograms] = useState(/** @type {ComponentType<typeof props> | null} */ (null));
  const load = () => void import("./code.js").then((module) => setPrograms(() => module.Programs));
  return html`<details class="code" onToggle=${load}>
    <summary>Use from code</summary>
    ${Programs && html`<${Programs} ...${props} />`}
  </details>`;
}

/**
 * Read the inputs from a file of settings, or from a prediction's JSON.
 * @param {File} file
 * @param {Model} model
 * @returns {Promise<Values>}
 */
async function readSettings(file, model) {
  /** @type {{ model?: unknown, input?: Values } | null} */
  const content = await file.text().then(JSON.parse).catch(() => null); // prettier-ignore
  if (!content?.input || typeof content.input !== "object" || Array.isArray(content.input)) {
    throw new Error(`${file.name} isn't a settings file: it must be JSON with an "input" object.`);
  }
  if (content.model !== undefined && content.model !== nameOf(model)) {
    throw new Error(`${file.name} has settings for ${content.model}, not for ${nameOf(model)}.`);
  }
  return content.input;
}

/**
 * Load files of settings: those that `load` is given, and those that are dropped where `drop` belongs.
 * @param {object} form
 * @param {Model} form.model
 * @param {Input[]} form.inputs
 * @param {(values: Values) => void} form.onLoad
 * @param {(error: unknown) => void} form.onError also called after onLoad, if there are inputs that aren't known
 */
function useSettings({ model, inputs, onLoad, onError }) {
  /** @param {File} file */
  const load = async (file) => {
    try {
      const values = await readSettings(file, model);
      onLoad(values);
      const unknown = Object.keys(values).filter((given) => !inputs.some(({ name }) => name === given));
      const names = unknown.join(", ");
      if (names) onError(new Error(`Left out, because ${nameOf(model)} has no such inputs: ${names}.`));
    } catch (error) {
      onError(error);
    }
  };
  /** @param {DragEvent} event */
  const onDrop = (event) => {
    const file = event.dataTransfer?.files[0];
    if (event.defaultPrevented || !file) return; // a field's own file, or a text
    event.preventDefault();
    void load(file);
  };
  /** @param {DragEvent} event */
  const onDragOver = (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault();
  return { load, drop: { onDrop, onDragOver } };
}

/**
 * @param {object} props
 * @param {Model} props.model
 * @param {Values} props.input
 * @param {(file: File) => void} props.onLoad
 */
function SettingsFile({ model, input, onLoad }) {
  const write = async () => {
    const { save } = await import("./transfer.js");
    const content = JSON.stringify({ model: nameOf(model), input }, null, 2);
    save(new Blob([content, "\n"], { type: "application/json" }), `${model.name}-settings.json`);
  };
  return html`<div class="controls settings">
    <button type="button" class="quiet" onClick=${write}>Save settings</button>
    <${FileButton} label="Load settings" accept=".json,application/json" quiet=${true} onFile=${onLoad} />
  </div>`;
}

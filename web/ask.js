// The form of a model, what runs it, and the request as code.
import { html, useEffect, useState } from "./vendor/htm-preact-3.1.1.js";
import { hasEnded, nameOf } from "./api.js";
import { Form, toDraft } from "./form.js";
import { rejectedBy, useShortcuts } from "./run.js";
import { SettingsFile, useSettings } from "./settings.js";
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

// The inputs of a form as a file.
import { html, useRef } from "./vendor/htm-preact-3.1.1.js";
import { nameOf } from "./api.js";
import { save } from "./transfer.js";
/** @import { Input, Model, Values } from "./types.js" */

/**
 * Read the inputs from a file of settings, or from a prediction's JSON.
 * @param {File} file
 * @param {Model} model
 * @returns {Promise<Values>}
 */
async function read(file, model) {
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
export function useSettings({ model, inputs, onLoad, onError }) {
  /** @param {File} file */
  const load = async (file) => {
    try {
      const values = await read(file, model);
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
export function SettingsFile({ model, input, onLoad }) {
  const chooser = useRef(/** @type {HTMLInputElement | null} */ (null));
  const write = () => {
    const content = JSON.stringify({ model: nameOf(model), input }, null, 2);
    save(new Blob([content, "\n"], { type: "application/json" }), `${model.name}-settings.json`);
  };
  /** @param {{ target: HTMLInputElement }} event */
  const choose = ({ target }) => {
    if (target.files?.[0]) onLoad(target.files[0]);
    Object.assign(target, { value: "" }); // so that the same file can be chosen again
  };
  return html`<div class="controls settings">
    <button type="button" class="quiet" onClick=${write}>Save settings</button>
    <button type="button" class="quiet" onClick=${() => chooser.current?.click()}>Load settings</button>
    <input type="file" accept=".json,application/json" hidden ref=${chooser} onChange=${choose} />
  </div>`;
}

// A form made from a version's Input schema.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { loudness } from "./sound.js";

/** Describe the inputs of a version in their order: [{name, type, title, description, default, minimum, maximum, choices, required}]. */
export function inputsOf(version) {
  const schemas = version.openapi_schema.components.schemas;
  const { properties = {}, required = [] } = schemas.Input;
  const resolved = (about) => {
    const parts = [about, ...(about.allOf ?? about.anyOf ?? [])];
    return Object.assign({}, ...parts.map((part) => (part.$ref ? schemas[part.$ref.split("/").at(-1)] : part)), about);
  };
  return Object.entries(properties)
    .map(([name, about]) => ({ name, ...resolved(about) }))
    .map(({ name, type, description, enum: choices, default: standard, minimum, maximum, ...about }) => ({
      name,
      type: type ?? "string",
      description: description === "An enumeration." ? "" : (description ?? ""),
      choices,
      standard,
      minimum,
      maximum,
      order: about["x-order"] ?? 0,
      required: required.includes(name),
    }))
    .sort((a, b) => a.order - b.order);
}

/** Return what a field shows for a value; of a list, each item on a line of its own. */
function shownAs(type, value) {
  if (type === "boolean") return Boolean(value);
  if (type === "array") return (value ?? []).join("\n");
  return String(value ?? "");
}

/** Return the values to begin with: what each field shows. */
export const standards = (inputs) => Object.fromEntries(inputs.map(({ name, type, standard }) => [name, shownAs(type, standard)]));

/**
 * Return what is sent. Numbers go as numbers; what is no number goes as it was typed, and the server says so. A blank is
 * left out, so that the model takes its default; but where the default is a text, a blank was meant.
 */
export function toInput(inputs, values) {
  const input = {};
  for (const { name, type, required, standard } of inputs) {
    const value = values[name];
    if (type === "boolean") input[name] = value;
    else if (type === "array") input[name] = value ? value.split("\n") : [];
    else if (value.trim() === "" && !required && !(type === "string" && standard)) continue;
    else if ((type === "integer" || type === "number") && Number.isFinite(Number(value))) input[name] = Number(value);
    else input[name] = value;
  }
  return input;
}

/** Return an earlier prediction's input as what the fields show. */
export const toValues = (inputs, input) => ({
  ...standards(inputs),
  ...Object.fromEntries(
    inputs.filter(({ name }) => input[name] !== undefined && input[name] !== null).map(({ name, type }) => [name, shownAs(type, input[name])]),
  ),
});

export function Form({ model, inputs, values, errors, curves, onChange, children }) {
  return html`<div class="fields">
    ${inputs.map(
      (input) => html`<${Field}
        key=${input.name}
        model=${model}
        input=${input}
        value=${values[input.name]}
        error=${errors[input.name]}
        onChange=${(value) => onChange({ ...values, [input.name]: value })}
      >${curves?.(input.name)}</${Field}>`,
    )}
    ${children}
  </div>`;
}

function Field({ model, input, value, error, onChange, children }) {
  const { name, type, description } = input;
  const standard = shownAs(type, input.standard);
  const id = `input-${name}`;
  const described = [description && `${id}-about`, error && `${id}-error`].filter(Boolean).join(" ");
  const common = { id, name, "aria-describedby": described || undefined, "aria-invalid": error ? "true" : undefined };
  const changed = standard !== value;
  return html`<div class="field">
    <div class="field-head">
      <label for=${id} id=${`${id}-label`}><code>${name}</code></label>
      ${changed && html`<button type="button" class="quiet" title=${`Back to ${standard || "blank"}`} onClick=${() => onChange(standard)}>reset<span class="hidden"> ${name}</span></button>`}
    </div>
    <${Control} model=${model} input=${input} value=${value} common=${common} onChange=${onChange} />
    ${description && html`<p class="about" id=${`${id}-about`}>${description}</p>`}
    ${error && html`<p class="error" id=${`${id}-error`}>${error}</p>`}
    ${children}
  </div>`;
}

function Control({ model, input, value, common, onChange }) {
  const typed = (event) => onChange(event.target.value);
  if (input.type === "boolean") return html`<input type="checkbox" ...${common} checked=${value} onChange=${(event) => onChange(event.target.checked)} />`;
  if (input.choices) return html`<${Choices} model=${model} input=${input} value=${value} common=${common} onChange=${onChange} />`;
  if (input.type === "integer" || input.type === "number") return html`<${Numeric} input=${input} value=${value} common=${common} onChange=${onChange} />`;
  if (input.type === "array" || /prompt|text/.test(input.name)) return html`<${Growing} ...${common} value=${value} onInput=${typed} />`;
  return html`<input type="text" ...${common} value=${value} onInput=${typed} spellcheck="false" autocomplete="off" />`;
}

/** A number to type, which the arrow keys change; with a slider where it has bounds. What is no number stays to be seen. */
function Numeric({ input, value, common, onChange }) {
  const { minimum, maximum, type, standard } = input;
  const bounded = minimum !== undefined && maximum !== undefined;
  const step = type === "integer" ? 1 : bounded ? (maximum - minimum) / 100 : 0.01;
  const now = value.trim() === "" || !Number.isFinite(Number(value)) ? (standard ?? minimum ?? 0) : Number(value);
  const typed = (event) => onChange(event.target.value);
  const arrows = (event) => {
    const by = { ArrowUp: step, ArrowDown: -step }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const next = Math.min(Math.max(now + by, minimum ?? -Infinity), maximum ?? Infinity);
    onChange(String(Number(next.toFixed(6))));
  };
  return html`<div class=${`numeric ${bounded ? "bounded" : ""}`}>
    ${bounded && html`<input type="range" min=${minimum} max=${maximum} step=${step} value=${now} onInput=${typed} aria-labelledby=${`${common.id}-label`} />`}
    <input type="text" inputmode=${type === "integer" ? "numeric" : "decimal"} autocomplete="off" ...${common} value=${value} onInput=${typed} onKeyDown=${arrows} placeholder=${standard ?? "random"} />
    ${bounded && html`<span class="bounds">${minimum} to ${maximum}</span>`}
  </div>`;
}

function Growing({ value, ...props }) {
  const field = useRef();
  useEffect(() => {
    field.current.style.height = "auto";
    field.current.style.height = `${field.current.scrollHeight + 2}px`;
  }, [value]);
  return html`<textarea ref=${field} rows="2" value=${value} ...${props}></textarea>`;
}

/** A list; or pictures to pick from, each with its sound, where there are some for this input. */
function Choices({ model, input, value, common, onChange }) {
  const samples = useSamples(model, input.name);
  if (!samples) {
    return html`<select ...${common} value=${value} onChange=${(event) => onChange(event.target.value)}>
      ${input.choices.map((choice) => html`<option key=${choice} value=${choice} selected=${choice === value}>${choice}</option>`)}
    </select>`;
  }
  return html`<div class="pictures" role="radiogroup" aria-labelledby=${`${common.id}-label`} id=${common.id}>
    ${input.choices.map(
      (choice) => html`<div key=${choice} class="choice">
        <label>
          <input type="radio" name=${common.name} value=${choice} checked=${choice === value} onChange=${() => onChange(choice)} />
          <span class="picture"><img src=${`${samples.folder}/${choice}.webp`} alt="" width="96" height="96" loading="lazy" /></span>
          <span class="name">${choice.replaceAll("_", " ")}</span>
        </label>
        <${Sample} url=${`${samples.folder}/${choice}.mp3`} name=${choice} />
      </div>`,
    )}
  </div>`;
}

const FOLDERS = { "riffusion/riffusion": { seed_image_id: "/web/seeds" } };

const useSamples = (model, name) => {
  const folder = FOLDERS[`${model.owner}/${model.name}`]?.[name];
  return folder && { folder };
};

let playing = null; // one sample at a time

function Sample({ url, name }) {
  const [on, setOn] = useState(false);
  const toggle = () => {
    const wasOn = on;
    playing?.pause();
    if (wasOn) return;
    playing = Object.assign(new Audio(url), { loop: true, volume: loudness() });
    playing.onpause = playing.onended = () => setOn(false);
    playing.play().then(() => setOn(true), () => setOn(false));
  };
  return html`<button type="button" class="icon" aria-pressed=${on ? "true" : "false"} aria-label=${`Listen to ${name}`} onClick=${toggle}>${on ? "■" : "▶"}</button>`;
}

// A form made from a version's Input schema.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { FileField } from "./file.js";
/** @import { ControlProps, Draft, Input, InputGroup, Preview, Schema, Values, Version, View } from "./types.js" */

/** @typedef {{ target: HTMLInputElement }} Typed an event */

/**
 * List a version's inputs in their order.
 * @param {Version} version
 * @returns {Input[]}
 */
export function inputsOf(version) {
  const { schemas } = version.openapi_schema.components;
  const { properties = {}, required = [] } = schemas.Input;
  /** @type {(schema: Schema) => Schema} */
  const resolve = (schema) => {
    const parts = schema.allOf ?? schema.anyOf ?? [];
    const named = parts.map((part) => (part.$ref ? schemas[`${part.$ref.split("/").at(-1)}`] : part));
    return Object.assign({}, ...named, schema);
  };
  const inputs = Object.entries(properties).map(([name, property]) => {
    const { type = "string", description = "", enum: choices, default: initial, ...schema } = resolve(property);
    const title = (schema.title ?? name).replaceAll("_", " ");
    return {
      name,
      label: title.charAt(0).toUpperCase() + title.slice(1).toLowerCase(),
      type,
      isFile: schema.format === "uri",
      description: description === "An enumeration." ? "" : description, // pydantic's own words
      choices,
      initial,
      minimum: schema.minimum,
      maximum: schema.maximum,
      order: schema["x-order"] ?? 0,
      required: required.includes(name),
    };
  });
  return inputs.sort((a, b) => a.order - b.order);
}

/**
 * Return what a field shows for a value: of a list, each item on a line of its own.
 * @param {string} type
 * @param {unknown} value
 */
function toField(type, value) {
  if (type === "boolean") return Boolean(value);
  if (Array.isArray(value)) return value.join("\n");
  if (value && typeof value === "object") return JSON.stringify(value);
  return String(value ?? "");
}

/**
 * Return what the fields show for an input: the defaults, or an earlier prediction's values.
 * @param {Input[]} inputs
 * @param {Values} [input]
 * @returns {Draft}
 */
export const toDraft = (inputs, input = {}) =>
  Object.fromEntries(inputs.map(({ name, type, initial }) => [name, toField(type, input[name] ?? initial)]));

/**
 * Return the input to send. Text that isn't a number goes as it is, so that the server's message names it. Blank fields
 * are left out, for the model's defaults. But where the default is a text, the blank is meant.
 * @param {Input[]} inputs
 * @param {Draft} draft
 */
export function toInput(inputs, draft) {
  /** @type {Values} */
  const input = {};
  for (const { name, type, required, initial } of inputs) {
    const value = draft[name] ?? "";
    if (typeof value === "boolean") input[name] = value;
    else if (type === "array") input[name] = value ? value.split("\n") : [];
    else if (value.trim() === "" && !required && !(type === "string" && initial)) continue;
    else if (isNumeric(type) && Number.isFinite(Number(value))) input[name] = Number(value);
    else input[name] = value;
  }
  return input;
}

/** @param {string} type */
const isNumeric = (type) => type === "integer" || type === "number";

/**
 * Put inputs into the view's groups. Those that it doesn't name go to the last one; without groups there is one.
 * @typedef {{ title: string, folded: InputGroup["folded"], inputs: Input[] }} Grouped
 * @type {(groups: InputGroup[] | undefined, inputs: Input[]) => Grouped[]}
 */
function grouped(groups = [{ title: "", inputs: [] }], inputs) {
  const named = new Set(groups.flatMap((group) => group.inputs));
  const others = inputs.filter(({ name }) => !named.has(name));
  return groups.map(({ title, folded = false, inputs: names }, index) => {
    const its = names.flatMap((name) => inputs.find((input) => input.name === name) ?? []);
    return { title, folded, inputs: index === groups.length - 1 ? [...its, ...others] : its };
  });
}

/**
 * @typedef {object} FormProps
 * @property {View} view
 * @property {Input[]} inputs
 * @property {Draft} draft
 * @property {Record<string, string>} errors by input
 * @property {Preview | null} preview
 * @property {(draft: Draft) => void} onChange
 */

/** @param {FormProps} props */
export function Form({ inputs, ...props }) {
  return html`<div class="fields">
    ${grouped(props.view.groups, inputs).map(
      ({ title, folded, inputs: its }) =>
        its.length > 0 &&
        (folded
          ? html`<${Group} key=${title} title=${title} folded=${folded} inputs=${its} ...${props} />`
          : html`<${Fields} key=${title} inputs=${its} ...${props} />`),
    )}
  </div>`;
}

/** @param {FormProps} props */
const Fields = ({ view, inputs, draft, errors, preview, onChange }) =>
  inputs.map(
    (input) =>
      html`<${Field}
        key=${input.name}
        view=${view}
        input=${input}
        value=${draft[input.name]}
        error=${errors[input.name]}
        onChange=${(/** @type {string | boolean} */ value) => onChange({ ...draft, [input.name]: value })}
      >
        ${
          view.Hint && preview && html`<${view.Hint} name=${input.name} preview=${preview} text=${draft[input.name]} />`
        }
      </${Field}>`,
  );

/**
 * Inputs that are folded away, with those of their values that aren't the default. It opens for an error.
 * @param {FormProps & { title: string, folded: InputGroup["folded"] }} props
 */
function Group({ title, folded, ...props }) {
  const { view, inputs, draft, errors } = props;
  const [open, setOpen] = useState(folded === "on phones" && !matchMedia("(max-width: 62rem)").matches);
  const invalid = inputs.some(({ name }) => errors[name]);
  const changed = inputs.filter(({ name, type, initial }) => draft[name] !== toField(type, initial));
  const values = (changed.length ? changed : inputs.slice(0, inputs.length === 1 ? 1 : 0)).map(
    (input) => `${inputs.length > 1 ? `${labelOf(view, input)} ` : ""}${draft[input.name] || "blank"}`,
  );
  const toggle = (/** @type {{ currentTarget: HTMLDetailsElement }} */ event) => setOpen(event.currentTarget.open);
  return html`<details class="group" open=${open || invalid} onToggle=${toggle}>
    <summary>${title} <span class="about">${!open && values.join(" · ")}</span></summary>
    ${(open || invalid) && html`<div class="fields"><${Fields} ...${props} /></div>`}
  </details>`;
}

/** @type {(view: View, input: Input) => string} */
const labelOf = (view, { name, label }) => view.labels?.[name] ?? label;

/**
 * @param {object} props
 * @param {View} props.view
 * @param {Input} props.input
 * @param {string | boolean} props.value
 * @param {string | undefined} props.error
 * @param {(value: string | boolean) => void} props.onChange
 * @param {unknown} props.children
 */
function Field({ view, input, value, error, onChange, children }) {
  const { name, type } = input;
  const id = `input-${name}`;
  const initial = toField(type, input.initial);
  const description = view.help?.[name] ?? input.description;
  const described = [description && `${id}-about`, error && `${id}-error`].filter(Boolean).join(" ");
  const invalid = error ? "true" : undefined;
  const attributes = { id, name, "aria-describedby": described || undefined, "aria-invalid": invalid };
  const Control = view.controls?.[name] ?? controlOf(input);
  return html`<div class="field">
    <div class="field-head">
      <label for=${id} id=${`${id}-label`}>${labelOf(view, input)} <code>${name}</code></label>
      ${value !== initial && html`<${Reset} name=${name} initial=${initial} onChange=${onChange} />`}
    </div>
    <${Control} input=${input} value=${value} attributes=${attributes} onChange=${onChange} />
    ${description && html`<p class="about" id=${`${id}-about`}>${description}</p>`}
    ${error && html`<p class="error" id=${`${id}-error`}>${error}</p>`}
    ${children}
  </div>`;
}

/** @param {{ name: string, initial: string | boolean, onChange: (value: string | boolean) => void }} props */
const Reset = ({ name, initial, onChange }) =>
  html`<button type="button" class="quiet" title=${`Default: ${initial || "blank"}`} onClick=${() => onChange(initial)}>
    Reset<span class="hidden"> ${name}</span>
  </button>`;

/** @param {Input} input */
function controlOf({ name, type, choices, isFile }) {
  if (isFile) return FileField;
  if (type === "boolean") return Checkbox;
  if (choices) return Select;
  if (isNumeric(type)) return Numeric;
  return type === "array" || /prompt|text/.test(name) ? TextArea : Line;
}

/** @param {ControlProps} props */
const Checkbox = ({ value, attributes, onChange }) =>
  html`<input
    type="checkbox"
    ...${attributes}
    checked=${value}
    onChange=${(/** @type {Typed} */ { target }) => onChange(target.checked)}
  />`;

/** @param {ControlProps} props */
const Line = ({ value, attributes, onChange }) =>
  html`<input
    type="text"
    ...${attributes}
    value=${value}
    onInput=${(/** @type {Typed} */ { target }) => onChange(target.value)}
    spellcheck=${false}
    autocomplete="off"
  />`;

/** @param {ControlProps} props */
const Select = ({ input, value, attributes, onChange }) =>
  html`<select
    ...${attributes}
    value=${value}
    onChange=${(/** @type {Typed} */ { target }) => onChange(target.value)}
  >
    ${input.choices?.map(
      (choice) => html`<option key=${choice} value=${choice} selected=${String(choice) === value}>${choice}</option>`,
    )}
  </select>`;

/**
 * A number to type, which the arrow keys change, and a slider if it has bounds. Text that isn't a number stays visible.
 * @param {ControlProps} props
 */
function Numeric({ input: { type, initial, minimum, maximum }, value, attributes, onChange }) {
  const bounded = minimum !== undefined && maximum !== undefined;
  const step = type === "integer" ? 1 : bounded ? (maximum - minimum) / 100 : 0.01;
  const current = Number(value.trim() === "" || !Number.isFinite(Number(value)) ? (initial ?? minimum ?? 0) : value);
  const typed = (/** @type {Typed} */ { target }) => onChange(target.value);
  /** @param {KeyboardEvent} event */
  const press = (event) => {
    const by = { ArrowUp: step, ArrowDown: -step }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const next = Math.min(Math.max(current + by, minimum ?? -Infinity), maximum ?? Infinity);
    onChange(String(Number(next.toFixed(6))));
  };
  const slider = html`<input
    type="range"
    min=${minimum}
    max=${maximum}
    step=${step}
    value=${current}
    onInput=${typed}
    aria-labelledby=${`${attributes.id}-label`}
  />`;
  return html`<div class=${`numeric ${bounded ? "bounded" : ""}`}>
    ${bounded && slider}
    <input
      type="text"
      inputmode=${type === "integer" ? "numeric" : "decimal"}
      autocomplete="off"
      ...${attributes}
      value=${value}
      placeholder=${initial}
      onInput=${typed}
      onKeyDown=${press}
    />
    ${bounded && html`<span class="bounds">${minimum} to ${maximum}</span>`}
  </div>`;
}

/** @param {ControlProps} props */
function TextArea({ value, attributes, onChange }) {
  const field = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useEffect(() => {
    if (!field.current) return;
    field.current.style.height = "auto";
    field.current.style.height = `${field.current.scrollHeight + 2}px`;
  }, [value]);
  return html`<textarea
    ref=${field}
    rows="2"
    ...${attributes}
    value=${value}
    onInput=${(/** @type {Typed} */ { target }) => onChange(target.value)}
  ></textarea>`;
}

// A field for a file: dropped, pasted, chosen, or given by its URL.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { messageOf, upload } from "./api.js";
import { Media } from "./result.js";
/** @import { OutputFile } from "./api.js" */
/** @import { ControlProps } from "./types.js" */

/** @typedef {{ target: HTMLInputElement }} Typed an event */

/** @param {ControlProps} props */
export function FileField({ value, attributes, onChange }) {
  const [state, setState] = useState({ name: "", problem: "" }); // of the file that is being uploaded
  const [over, setOver] = useState(false); // whether a file is held above the field
  const chooser = useRef(/** @type {HTMLInputElement | null} */ (null));
  const [chosen, setChosen] = useState(/** @type {OutputFile & { for: string } | null} */ (null));
  useEffect(() => () => chosen && URL.revokeObjectURL(chosen.url), [chosen]);

  /** @param {FileList | undefined} files */
  const take = async (files) => {
    const file = files?.[0];
    if (!file) return;
    setState({ name: file.name, problem: "" });
    try {
      const uploaded = await upload(file);
      const [kind] = file.type.split("/");
      setChosen({ name: file.name, url: URL.createObjectURL(file), kind, for: uploaded });
      onChange(uploaded);
      setState({ name: "", problem: "" });
    } catch (error) {
      setState({ name: "", problem: messageOf(error, "Can't reach the server. The file was not uploaded.") });
    }
  };
  /** @type {(event: DragEvent, isOver: boolean) => void} */
  const drag = (event, isOver) => {
    event.preventDefault();
    setOver(isOver);
  };
  /** @param {DragEvent} event */
  const drop = (event) => {
    drag(event, false);
    void take(event.dataTransfer?.files);
  };
  /** @param {ClipboardEvent} event */
  const paste = (event) => {
    if (!event.clipboardData?.files.length) return; // a URL, as text
    event.preventDefault();
    void take(event.clipboardData.files);
  };
  const type = (/** @type {Typed} */ { target }) => onChange(target.value);
  const choose = (/** @type {Typed} */ { target }) => void take(target.files ?? undefined);
  return html`<div
    class=${`file ${over ? "over" : ""}`}
    onDragOver=${(/** @type {DragEvent} */ event) => drag(event, true)}
    onDragLeave=${(/** @type {DragEvent} */ event) => drag(event, false)}
    onDrop=${drop}
    onPaste=${paste}
  >
    <div class="controls">
      <button type="button" onClick=${() => chooser.current?.click()}>Choose a file</button>
      <span class="about" aria-live="polite">${state.name ? `Uploading ${state.name}…` : "or drop it here"}</span>
      <input type="file" hidden ref=${chooser} onChange=${choose} />
    </div>
    <input type="text" ...${attributes} value=${value} onInput=${type} placeholder="Or its URL" spellcheck="false" />
    ${state.problem && html`<p class="error" role="alert">${state.problem}</p>`}
    ${chosen?.for === value && html`<${Media} file=${chosen} />`}
  </div>`;
}

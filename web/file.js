// A field for a file: dropped, pasted, chosen, recorded, or given by its URL.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { messageOf } from "./api.js";
import { Media } from "./result.js";
/** @import { OutputFile } from "./api.js" */
/** @import { Recording } from "./microphone.js" */
/** @import { ControlProps } from "./types.js" */

/** @typedef {{ target: HTMLInputElement }} Typed an event */

const SOUNDS = /audio|sound|speech|voice|vocal|speaker|song|music|wav|mp3/i; // in names of inputs

/** What is uploaded: a file's name, and how much of it was sent, from 0 to 1. */
const NONE = { name: "", share: 0, problem: "" };

/**
 * Upload one file at a time. It ends with the field.
 * @param {(url: string, file: File) => void} onDone
 */
function useUpload(onDone) {
  const [state, setState] = useState(NONE);
  const stop = useRef(/** @type {AbortController | null} */ (null));
  const done = useRef(onDone); // the form may change meanwhile
  done.current = onDone;
  const cancel = () => {
    stop.current?.abort();
    setState(NONE);
  };
  useEffect(() => () => stop.current?.abort(), []);
  /** @param {File | undefined} file */
  const start = async (file) => {
    if (!file) return;
    stop.current?.abort();
    const { signal } = (stop.current = new AbortController());
    setState({ ...NONE, name: file.name });
    try {
      const { upload } = await import("./transfer.js");
      const url = await upload(file, (share) => setState({ ...NONE, name: file.name, share }), signal);
      done.current(url, file);
      setState(NONE);
    } catch (error) {
      if (signal.aborted) return;
      setState({ ...NONE, problem: messageOf(error, "Can't reach the server. The file was not uploaded.") });
    }
  };
  return { ...state, start, cancel };
}

/** @param {ControlProps} props */
export function FileField({ input, value, attributes, onChange }) {
  const [over, setOver] = useState(false); // whether a file is held above the field
  const [chosen, setChosen] = useState(/** @type {OutputFile & { for: string } | null} */ (null));
  useEffect(() => () => chosen && URL.revokeObjectURL(chosen.url), [chosen]);
  const uploading = useUpload((url, file) => {
    const [kind] = file.type.split("/");
    setChosen({ name: file.name, url: URL.createObjectURL(file), kind, for: url });
    onChange(url);
  });
  /** @type {(event: DragEvent, isOver: boolean) => void} */
  const drag = (event, isOver) => {
    event.preventDefault();
    setOver(isOver);
  };
  /** @param {DragEvent} event */
  const drop = (event) => {
    drag(event, false);
    void uploading.start(event.dataTransfer?.files[0]);
  };
  /** @param {ClipboardEvent} event */
  const paste = (event) => {
    if (!event.clipboardData?.files.length) return; // a URL, as text
    event.preventDefault();
    void uploading.start(event.clipboardData.files[0]);
  };
  const type = (/** @type {Typed} */ { target }) => onChange(target.value);
  return html`<div
    class=${`file ${over ? "over" : ""}`}
    onDragOver=${(/** @type {DragEvent} */ event) => drag(event, true)}
    onDragLeave=${(/** @type {DragEvent} */ event) => drag(event, false)}
    onDrop=${drop}
    onPaste=${paste}
  >
    <div class="controls">
      <${FileButton} label="Choose a file" onFile=${uploading.start} />
      ${SOUNDS.test(input.name) && navigator.mediaDevices && html`<${Recorder} onRecorded=${uploading.start} />`}
      <span class="about">or drop it here</span>
    </div>
    ${uploading.name && html`<${Uploading} ...${uploading} />`}
    ${uploading.problem && html`<p class="error" role="alert">${uploading.problem}</p>`}
    <input type="text" ...${attributes} value=${value} onInput=${type} placeholder="Or its URL" spellcheck=${false} />
    ${chosen?.for === value && html`<${Media} file=${chosen} />`}
  </div>`;
}

/**
 * A button that lets the user choose a file.
 * @param {{ label: string, accept?: string, quiet?: boolean, onFile: (file: File) => void }} props
 */
export function FileButton({ label, accept, quiet, onFile }) {
  const chooser = useRef(/** @type {HTMLInputElement | null} */ (null));
  const choose = (/** @type {Typed} */ { target }) => {
    if (target.files?.[0]) onFile(target.files[0]);
    Object.assign(target, { value: "" }); // so that the same file can be chosen again
  };
  return html`<button type="button" class=${quiet ? "quiet" : ""} onClick=${() => chooser.current?.click()}>
      ${label}
    </button>
    <input type="file" accept=${accept} hidden ref=${chooser} onChange=${choose} />`;
}

/** @param {ReturnType<typeof useUpload>} props */
function Uploading({ name, share, cancel }) {
  const text = share < 1 ? `Uploading ${name}` : `Storing ${name}`; // the server sends it on to its own store
  return html`<div class="progress">
    <progress aria-label=${text} max="1" value=${share}></progress>
    <span class="about" role="status">${text}</span>
    <button type="button" onClick=${cancel}>Cancel<span class="hidden"> the upload</span></button>
  </div>`;
}

/**
 * A button that starts and stops a recording. Its module is loaded when it is first pressed.
 * @param {{ onRecorded: (file: File) => void }} props
 */
function Recorder({ onRecorded }) {
  const [recording, setRecording] = useState(/** @type {Recording | null} */ (null));
  const [length_s, setLength] = useState(0);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    if (!recording) return undefined;
    const timer = setInterval(() => setLength((seconds) => seconds + 1), 1000);
    return () => {
      clearInterval(timer);
      recording.stop(); // the field may have gone
    };
  }, [recording]);
  const start = async () => {
    setProblem("");
    setLength(0);
    try {
      const { record } = await import("./microphone.js");
      setRecording(await record());
    } catch (error) {
      setProblem(`Can't record: ${messageOf(error)}.`);
    }
  };
  const stop = () => {
    recording?.stop();
    if (recording) onRecorded(recording.toFile());
    setRecording(null);
  };
  const time = `${Math.floor(length_s / 60)}:${`${length_s % 60}`.padStart(2, "0")}`;
  return html`<button type="button" aria-pressed=${recording ? "true" : "false"} onClick=${recording ? stop : start}>
      ${recording ? `Stop recording, ${time}` : "Record"}
    </button>
    ${problem && html`<p class="error" role="alert">${problem}</p>`}`;
}

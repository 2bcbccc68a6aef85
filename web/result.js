// A prediction: what it was made of, its status, progress, output and logs.
import { html, useEffect, useState } from "./vendor/htm-preact-3.1.1.js";
import { filesOf, hasEnded, hasInputs } from "./api.js";
import { titleOf } from "./view.js";
/** @import { OutputFile } from "./api.js" */
/** @import { Model, OutputProps, Prediction, Status, Values, View } from "./types.js" */

/** @type {Record<Status, string>} */
export const STATUSES = {
  starting: "Starting",
  processing: "Running",
  succeeded: "Done",
  failed: "Failed",
  canceled: "Canceled",
};
const COPIED_MS = 1500;
const MAX_BAR_CHARS = 2000; // of the logs, to look for a progress bar
const BAR = /^\s*(\d+)%\s*\|.+?\|\s*(\d+)\/(\d+)(?: \[[\d:]+<((?:\d+:)?\d+:\d+))?/gm;

/**
 * Read the progress from a prediction's logs: from the last line that is a progress bar of tqdm, if there is one.
 * `left` is the time left, such as 1:30, or empty.
 * @param {string} logs
 */
export function progressOf(logs) {
  const [, percent, done, total, left = ""] = [...logs.slice(-MAX_BAR_CHARS).matchAll(BAR)].at(-1) ?? [];
  if (percent === undefined) return null;
  return { percent: Number(percent), done: Number(done), total: Number(total), left: left.replace(/^0/, "") };
}

/**
 * Return what puts inputs into a form, or null if that form isn't there.
 * @typedef {(input: Values) => (() => void) | null} PutInputs
 */

/**
 * @typedef {object} Props
 * @property {View} view
 * @property {Model} model
 * @property {Prediction | null} prediction
 * @property {Prediction | null} kept the one before a run: its output stays until there is a new one
 * @property {number | null} position in the queue, from 1
 * @property {boolean} lost
 * @property {string} startedId the prediction that the user has just run
 * @property {Prediction | null} pinned
 * @property {(prediction: Prediction | null) => void} onPin
 * @property {(input: Values) => void} onExample
 * @property {PutInputs} onAgain for the form of the same model
 * @property {PutInputs} onNext for the form of another model, which it turns to
 */

/** @param {Props} props */
export function Result({ prediction, ...rest }) {
  if (prediction) return html`<${Shown} prediction=${prediction} ...${rest} />`;
  return html`<${Empty} ...${rest} />`;
}

/** @param {Pick<Props, "view" | "model" | "onExample">} props */
function Empty({ view, model, onExample }) {
  const given = model.default_example?.input;
  const examples = view.examples?.filter((one) => hasInputs(model, one)) ?? (given ? [given] : []);
  const name = (/** @type {Values} */ input) => titleOf(/** @type {Prediction} */ ({ id: "Example", input }), view);
  return html`<section class="result empty">
    <h2>Nothing here yet</h2>
    <p class="about">Press Run${examples.length > 0 && ", or try one of these"}. The result appears here.</p>
    <div class="controls">
      ${examples.map(
        (input) =>
          html`<button type="button" key=${name(input)} onClick=${() => onExample(input)}>
            <span class="title">${name(input)}</span>
          </button>`,
      )}
    </div>
  </section>`;
}

/** @param {Props & { prediction: Prediction }} props */
function Shown({ view, prediction, kept, position, lost, startedId, onExample: _, onAgain, onNext, ...props }) {
  const { output, error, logs, input, data_removed } = prediction;
  const ended = hasEnded(prediction);
  const shown = output === null ? kept : prediction;
  const Output = view.Output && view.shows?.(shown?.output) ? view.Output : Plain;
  return html`<section class="result" aria-labelledby="result-title">
    <h2 id="result-title" class="title" tabindex="-1"><bdi>${titleOf(prediction, view)}</bdi></h2>
    <${About} prediction=${prediction} view=${view} position=${position} ...${{ onAgain, onNext }} />
    ${lost && html`<p class="error" role="alert">Connection lost. Reconnecting…</p>`}
    ${!ended && html`<${Progress} logs=${logs} describe=${view.progress} input=${input} />`}
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${data_removed && html`<p class="about">The inputs, output and logs were deleted after the retention period.</p>`}
    ${
      shown &&
      html`<div class=${shown === prediction || ended ? "" : "kept"}>
      ${shown !== prediction && html`<p class="about">Previous result: <bdi>${titleOf(shown, view)}</bdi></p>`}
      <${Output} prediction=${shown} fresh=${shown.id === startedId} ...${props} />
    </div>`
    }
    ${logs && html`<${Folded} title="Logs" text=${logs} />`}
    <${Folded} title="JSON" text=${JSON.stringify(prediction, null, 2)} />
  </section>`;
}

/**
 * Say how it went.
 * @param {{ prediction: Prediction, view: View, position: number | null } & Pick<Props, "onAgain" | "onNext">} props
 */
function About({ prediction, view, position, onAgain, onNext }) {
  const { id, status, metrics } = prediction;
  const run_s = hasEnded(prediction) && metrics?.predict_time;
  return html`<div class="controls about">
    <span class=${status === "succeeded" ? "hidden" : ""}>
      <span class=${`dot ${status}`}></span><span role="status">${describe(prediction, position)}</span>
    </span>
    ${run_s ? html`<span>${run_s.toFixed(1)} s</span>` : null}
    ${view.facts?.(prediction).map(({ text, label, again, next }) => {
      const use = again ? onAgain(again) : next && onNext(next);
      const button = use && html`<button type="button" class="quiet" onClick=${use}>${label}</button>`;
      return html`<span key=${label ?? text}>${text} ${button}</span>`;
    })}
    <${Share} id=${id} />
  </div>`;
}

/** @type {(prediction: Prediction, position: number | null) => string} */
function describe({ status }, position) {
  if (status !== "starting" || !position) return STATUSES[status];
  return position === 1 ? "Next in the queue" : `Number ${position} in the queue`;
}

/** @param {{ id: string }} props */
function Share({ id }) {
  const path = `/?prediction=${id}`; // whoever has the prediction's token can open it
  if (!canCopy) return html`<a class="quiet" href=${path}>Link</a> <code>${id}</code>`;
  return html`<${CopyButton} text=${location.origin + path} label="Copy link" quiet />
    <${CopyButton} text=${id} label="Copy ID" quiet />`;
}

/** Browsers give the clipboard to local pages and to those with TLS. */
export const canCopy = Boolean(navigator.clipboard);

/**
 * Copy a text.
 * @param {{ text: string, label: string, quiet?: boolean }} props
 */
export function CopyButton({ text, label, quiet }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
  };
  useEffect(() => {
    const timer = setTimeout(() => setCopied(false), COPIED_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  const style = quiet ? "quiet" : "";
  return html`<button type="button" class=${style} onClick=${copy}>${copied ? "Copied" : label}</button>`;
}

/** @param {{ logs: string, describe: View["progress"], input: Values }} props */
function Progress({ logs, describe: describeSteps, input }) {
  const at = progressOf(logs);
  const text = at && (describeSteps?.(input, at) ?? `${at.done} of ${at.total}`);
  return html`<div class="progress">
    <progress aria-label="Progress" max="100" value=${at?.percent}></progress>
    <span class="about">${text}${at?.left && ` · ${at.left} left`}</span>
  </div>`;
}

/**
 * A long text. It is put on the page once it is opened.
 * @param {{ title: string, text: string }} props
 */
function Folded({ title, text }) {
  const [open, setOpen] = useState(false);
  const toggle = (/** @type {{ currentTarget: HTMLDetailsElement }} */ event) => setOpen(event.currentTarget.open);
  return html`<details onToggle=${toggle}>
    <summary>${title}</summary>
    ${open && html`<pre tabindex="0">${text}</pre>`}
  </details>`;
}

/**
 * Show an output of any model: its files by their type, or else text or JSON.
 * @param {OutputProps} props
 */
function Plain({ prediction: { output } }) {
  const found = filesOf(output);
  const isText = Array.isArray(output) && output.every((item) => typeof item === "string"); // of a language model
  const text = isText ? output.join("") : typeof output === "string" ? output : JSON.stringify(output, null, 2);
  return html`<div class="other">
    ${found.map(
      (file) => html`<p key=${file.name}><${Media} file=${file} /> <a href=${file.url} download>${file.name}</a></p>`,
    )}
    ${!found.length && html`<pre tabindex="0">${text}</pre>`}
  </div>`;
}

/** @param {{ file: OutputFile }} props */
export function Media({ file: { name, url, kind } }) {
  if (kind === "image") return html`<img src=${url} alt=${name} />`;
  if (kind === "audio") return html`<audio src=${url} controls></audio>`;
  if (kind === "video") return html`<video src=${url} controls playsinline></video>`;
  return null;
}

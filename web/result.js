// A prediction: its status, progress, output and logs.
import { html } from "./vendor/htm-preact-3.1.1.js";
import { filesOf, hasEnded, progressOf } from "./api.js";
import { CopyButton, canCopy } from "./code.js";
/** @import { OutputFile } from "./api.js" */
/** @import { OutputProps, Prediction, Status, View } from "./types.js" */

/** @type {Record<Status, string>} */
export const STATUSES = {
  starting: "Starting",
  processing: "Running",
  succeeded: "Done",
  failed: "Failed",
  canceled: "Canceled",
};

/** @param {{ view: View, prediction: Prediction | null } & Omit<ShownProps, "prediction">} props */
export function Result({ view, prediction, ...rest }) {
  if (prediction) return html`<${Shown} view=${view} prediction=${prediction} ...${rest} />`;
  return html`<section class="result empty"><p class="about">Press Run. The result appears here.</p></section>`;
}

/** @typedef {OutputProps & { view: View, position: number | null, lost: boolean }} ShownProps */

/** @param {ShownProps} props */
function Shown({ view, position, lost, ...props }) {
  const { status, output, error, logs, id, metrics, data_removed } = props.prediction;
  const ended = hasEnded(props.prediction);
  const run_s = ended && metrics?.predict_time;
  const Output = view.Output && view.shows?.(output) ? view.Output : Plain;
  return html`<section class="result" aria-labelledby="result-title">
    <div class="controls">
      <h2 id="result-title">
        <span class=${`dot ${status}`}></span><span role="status">${describe(props.prediction, position)}</span>
      </h2>
      <span class="about">${run_s ? `${run_s.toFixed(1)} s · ` : ""}<code>${id}</code></span>
      <${Share} id=${id} />
    </div>
    ${lost && html`<p class="error" role="alert">Connection lost. Reconnecting…</p>`}
    ${!ended && html`<${Progress} logs=${logs} />`}
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${data_removed && html`<p class="about">The inputs, output and logs were deleted after the retention period.</p>`}
    ${output !== null && html`<${Output} ...${props} />`}
    ${logs && html`<details><summary>Logs</summary><pre tabindex="0">${logs}</pre></details>`}
  </section>`;
}

/** @type {(prediction: Prediction, position: number | null) => string} */
function describe({ status }, position) {
  if (status !== "starting" || !position) return STATUSES[status];
  return position === 1 ? "Next in the queue" : `Number ${position} in the queue`;
}

/** @param {{ id: string }} props */
function Share({ id }) {
  const path = `/?prediction=${id}`; // whoever has the prediction's token can open it
  if (!canCopy) return html`<a class="quiet" href=${path}>Link</a>`;
  return html`<${CopyButton} text=${location.origin + path} label="Copy link" quiet />`;
}

/** @param {{ logs: string }} props */
function Progress({ logs }) {
  const at = progressOf(logs);
  return html`<div class="progress">
    <progress aria-label="Progress" max="100" value=${at?.percent}></progress>
    <span class="about">${at && `${at.done} of ${at.total}`}</span>
  </div>`;
}

/**
 * Show an output of any model: its files by their type, or else text or JSON.
 * @param {OutputProps} props
 */
function Plain({ prediction: { output } }) {
  const found = filesOf(output);
  const text = typeof output === "string" ? output : JSON.stringify(output, null, 2);
  return html`<div class="other">
    ${found.map(
      (file) => html`<p key=${file.name}><${Media} file=${file} /> <a href=${file.url} download>${file.name}</a></p>`,
    )}
    ${!found.length && html`<pre tabindex="0">${text}</pre>`}
  </div>`;
}

/** @param {{ file: OutputFile }} props */
function Media({ file: { name, url, kind } }) {
  if (kind === "image") return html`<img src=${url} alt=${name} />`;
  if (kind === "audio") return html`<audio src=${url} controls loop></audio>`;
  if (kind === "video") return html`<video src=${url} controls loop playsinline></video>`;
  return null;
}

// What became of a prediction: where it stands, its progress, its output, its logs.
import { html, useState } from "./vendor/htm-preact-3.1.1.js";
import { ended, files, progress } from "./api.js";
import { Clip, isClip } from "./clip.js";
import { Film, isFilm } from "./film.js";

export function Result({ prediction, place, lost, kept, onKeep, recent, fresh, model }) {
  if (!prediction) return html`<section class="result empty"><p class="about">Run, and what is made appears here.</p></section>`;
  const { status, output, error, logs, id } = prediction;
  const run_s = prediction.metrics?.predict_time;
  return html`<section class="result" aria-labelledby="result-title">
    <div class="controls">
      <h2 id="result-title"><span class=${`dot ${status}`}></span><span role="status">${standing(prediction, place)}</span></h2>
      <span class="about">${run_s && ended(prediction) ? `${run_s.toFixed(1)} s · ` : ""}<code>${id}</code></span>
      <${Share} id=${id} />
    </div>
    ${lost && html`<p class="error" role="alert">No connection to the server; trying again …</p>`}
    ${!ended(prediction) && html`<${Progress} logs=${logs} />`}
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${prediction.data_removed && html`<p class="about">Its inputs, output and logs were removed after the time that the server keeps them.</p>`}
    ${isClip(output) && html`<${Clip} key="clip" prediction=${prediction} kept=${kept} onKeep=${onKeep} recent=${recent} autoplay=${fresh === id} />`}
    ${isFilm(output) && html`<${Film} key=${id} prediction=${prediction} model=${model} />`}
    ${output !== null && !isClip(output) && !isFilm(output) && html`<${Other} output=${output} />`}
    ${logs && html`<details><summary>Logs</summary><pre tabindex="0">${logs}</pre></details>`}
  </section>`;
}

/** Copy the link to a prediction; whoever has its token can open it. */
function Share({ id }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(`${location.origin}/?prediction=${id}`);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  // Browsers give the clipboard only to pages of this machine or with TLS; elsewhere the link itself can be copied.
  if (!navigator.clipboard) return html`<a class="quiet" href=${`/?prediction=${id}`}>link</a>`;
  return html`<button type="button" class="quiet" onClick=${copy}>${copied ? "copied" : "copy link"}</button>`;
}

const standing = ({ status }, place) =>
  ({
    starting: place ? (place === 1 ? "next in the queue" : `place ${place} in the queue`) : "starting",
    processing: "running",
    succeeded: "done",
    failed: "failed",
    canceled: "canceled",
  })[status];

function Progress({ logs }) {
  const at = progress(logs);
  return html`<div class="progress">
    <progress aria-label="Progress" max="100" value=${at ? at.percent : undefined}></progress>
    <span class="about">${at ? `${at.done} of ${at.total}` : ""}</span>
  </div>`;
}

/** Show an output of another model: its files by their type, else its JSON. */
function Other({ output }) {
  const found = files(output);
  const text = typeof output === "string" && !found.length ? output : JSON.stringify(output, null, 2);
  return html`<div class="other">
    ${found.map(({ name, url }) => html`<p key=${name}>
      ${/\.(png|jpe?g|gif|webp)(\?|$)|^data:image/.test(url) && html`<img src=${url} alt=${name} />`}
      ${/\.(wav|mp3|ogg|flac)(\?|$)|^data:audio/.test(url) && html`<audio src=${url} controls loop></audio>`}
      <a href=${url} download>${name}</a>
    </p>`)}
    ${!found.length && html`<pre tabindex="0">${text}</pre>`}
  </div>`;
}

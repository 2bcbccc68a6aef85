// Earlier predictions: thumbnails, filters, pages.
import { html, useEffect, useState } from "./vendor/htm-preact-3.1.1.js";
import { isClip, titleOf } from "./clip.js";
import { isFilm } from "./film.js";

const STATUSES = ["starting", "processing", "succeeded", "failed", "canceled"];

/** Say in a few words what a prediction was asked for: a clip's prompts, or the first of its texts. */
export function summary({ id, input, data_removed: removed }) {
  if (removed) return "its data has been removed";
  if (input.prompt_a) return titleOf({ input });
  return input.animation_prompts ?? input.prompt ?? Object.values(input).find((value) => value && typeof value === "string") ?? id;
}

export function History({ predictions, next, models, current, error, onMore, onOpen }) {
  const [model, setModel] = useState("");
  const [status, setStatus] = useState("");
  const shown = predictions.filter((one) => (!model || one.model === model) && (!status || one.status === status));
  // Where a filter leaves little of what is loaded, the next page may have more.
  useEffect(() => {
    if ((model || status) && shown.length < 6 && next) onMore();
  }, [model, status, shown.length, next]);
  return html`<section class="history" aria-labelledby="history-title">
    <div class="controls">
      <h2 id="history-title">History</h2>
      <label class="inline">model <select value=${model} onChange=${(event) => setModel(event.target.value)}>
        <option value="">all</option>
        ${models.map((one) => html`<option key=${one.name} value=${`${one.owner}/${one.name}`}>${one.name}</option>`)}
      </select></label>
      <label class="inline">status <select value=${status} onChange=${(event) => setStatus(event.target.value)}>
        <option value="">all</option>
        ${STATUSES.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}
      </select></label>
    </div>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${!shown.length && html`<p class="about">${predictions.length ? "None of these." : "Nothing yet: what you run stands here."}</p>`}
    <ul class="cards">
      ${shown.map(
        (one) => html`<li key=${one.id}>
          <a href=${`?prediction=${one.id}`} class=${`card ${one.id === current ? "current" : ""}`} onClick=${(event) => {
            if (event.ctrlKey || event.metaKey || event.shiftKey) return;
            event.preventDefault();
            onOpen(one);
          }}>
            <${Thumbnail} prediction=${one} />
            <span class="title">${summary(one)}</span>
            <span class="about"><span class=${`dot ${one.status}`}></span><span class=${one.status === "succeeded" ? "hidden" : ""}>${one.status} </span><${When} time=${one.created_at} /></span>
          </a>
        </li>`,
      )}
    </ul>
    ${next && html`<button type="button" onClick=${onMore}>Older</button>`}
  </section>`;
}

function Thumbnail({ prediction: { output, status } }) {
  if (isClip(output)) return html`<img class="thumbnail" src=${output.spectrogram} alt="" loading="lazy" width="160" height="90" />`;
  if (isFilm(output)) return html`<video class="thumbnail" src=${`${output}#t=0.1`} muted playsinline preload="metadata" tabindex="-1" aria-hidden="true"></video>`;
  return html`<span class="thumbnail none" aria-hidden="true">${{ failed: "!", canceled: "×" }[status] ?? "…"}</span>`;
}

function When({ time }) {
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  const told = today ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }) : date.toLocaleDateString([], { day: "numeric", month: "short" });
  return html`<time datetime=${time} title=${date.toLocaleString()}>${told}</time>`;
}

// Earlier predictions: thumbnails, filters, pages.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { filesOf, get, hasEnded, list, messageOf, nameOf } from "./api.js";
import { STATUSES } from "./result.js";
import { GENERIC } from "./view.js";
/** @import { Model, PageOfPredictions, Prediction, Status, View } from "./types.js" */

/** @type {Partial<Record<Status, string>>} */
const MARKS = { failed: "!", canceled: "×" }; // where there is no picture
const RETRY_MS = 2000;
const POLL_MS = 5000;
const FEW = 6; // matches of a filter, below which the next page is loaded too

/**
 * The predictions that are loaded, newest first. `next` leads to older ones; undefined before anything was loaded.
 * @typedef {{ predictions: Prediction[], next: string | null | undefined }} Loaded
 */

/** @type {(known: Prediction[], news: Prediction[]) => Prediction[]} */
function merge(known, news) {
  const byId = new Map([...known, ...news].map((one) => [one.id, one]));
  return [...byId.values()].sort((a, b) => b.created_at.localeCompare(a.created_at));
}

/** @type {(loaded: Loaded, page: PageOfPredictions) => Loaded} */
function withNewest({ predictions, next }, page) {
  if (next === undefined) return { predictions: merge(predictions, page.results), next: page.next };
  // Without a common prediction there may be others between the page and what is loaded.
  const connected = page.results.some(({ id }) => predictions.some((one) => one.id === id));
  if (!connected) return { predictions: page.results, next: page.next };
  return { predictions: merge(predictions, page.results), next };
}

/** @type {(loaded: Loaded, page: PageOfPredictions) => Loaded} */
const withOlder = ({ predictions }, page) => ({ predictions: merge(predictions, page.results), next: page.next });

/**
 * Keep the list of predictions. The newest are loaded at the start, on `refresh` and when the window gets the focus,
 * older ones on `more`. `put` adds news of one. The oldest of the running ones that nothing else follows is polled.
 * @param {string | undefined} followedId
 */
export function useHistory(followedId) {
  const [{ predictions, next }, setLoaded] = useState(/** @type {Loaded} */ ({ predictions: [], next: undefined }));
  const [error, setError] = useState("");
  const busy = useRef(false);

  /** @type {(from: string | null, add: (loaded: Loaded, page: PageOfPredictions) => Loaded) => Promise<void>} */
  const load = async (from, add) => {
    if (busy.current) return;
    busy.current = true;
    try {
      const page = await list(from);
      setLoaded((loaded) => add(loaded, page));
      setError("");
    } catch (problem) {
      setError(messageOf(problem, "Can't load the history: no response from the server."));
    } finally {
      busy.current = false;
    }
  };
  const refresh = () => void load(null, withNewest);
  const more = () => void load(next ?? null, withOlder);
  /** @param {Prediction} news */
  const put = (news) => setLoaded((loaded) => ({ ...loaded, predictions: merge(loaded.predictions, [news]) }));

  useEffect(() => {
    refresh();
    addEventListener("focus", refresh);
    return () => removeEventListener("focus", refresh);
  }, []);
  useEffect(() => {
    if (!error) return undefined;
    const timer = setInterval(refresh, RETRY_MS);
    return () => clearInterval(timer);
  }, [error]);
  const unfollowedId = predictions.findLast((one) => !hasEnded(one) && one.id !== followedId)?.id;
  useEffect(() => {
    if (!unfollowedId) return undefined;
    const timer = setInterval(() => get(unfollowedId).then(put, () => {}), POLL_MS);
    return () => clearInterval(timer);
  }, [unfollowedId]);
  return { predictions, hasMore: Boolean(next), error, more, put, refresh };
}

/**
 * @param {object} props
 * @param {ReturnType<typeof useHistory>} props.history
 * @param {Model[]} props.models
 * @param {Record<string, View>} props.views
 * @param {string | undefined} props.shownId
 * @param {(prediction: Prediction) => void} props.onOpen
 */
export function History({ history, models, views, shownId, onOpen }) {
  const { predictions, hasMore, error, more } = history;
  const [model, setModel] = useState("");
  const [status, setStatus] = useState("");
  const matches = predictions.filter((one) => (!model || one.model === model) && (!status || one.status === status));
  useEffect(() => {
    if ((model || status) && matches.length < FEW && hasMore) more();
  }, [model, status, matches.length, predictions.length, hasMore]);
  const modelOptions = models.map((one) => [nameOf(one), one.name]);
  const empty = predictions.length ? "No predictions match these filters." : "No predictions yet.";
  return html`<section class="history" aria-labelledby="history-title">
    <div class="controls">
      <h2 id="history-title">History</h2>
      <${Filter} label="Model" options=${modelOptions} value=${model} onChange=${setModel} />
      <${Filter} label="Status" options=${Object.entries(STATUSES)} value=${status} onChange=${setStatus} />
    </div>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${!matches.length && html`<p class="about">${empty}</p>`}
    <ul class="cards">
      ${matches.map(
        (one) =>
          html`<li key=${one.id}>
            <${Card}
              prediction=${one}
              view=${views[one.model] ?? GENERIC}
              shown=${one.id === shownId}
              onOpen=${onOpen}
            />
          </li>`,
      )}
    </ul>
    ${hasMore && html`<button type="button" onClick=${more}>Load more</button>`}
  </section>`;
}

/** @param {{ label: string, options: string[][], value: string, onChange: (value: string) => void }} props */
function Filter({ label, options, value, onChange }) {
  const pick = (/** @type {{ target: HTMLSelectElement }} */ { target }) => onChange(target.value);
  return html`<label class="inline">
    ${label}
    <select value=${value} onChange=${pick}>
      <option value="">All</option>
      ${options.map(([key, text]) => html`<option key=${key} value=${key}>${text}</option>`)}
    </select>
  </label>`;
}

/** @param {{ prediction: Prediction, view: View, shown: boolean, onOpen: (prediction: Prediction) => void }} props */
function Card({ prediction, view, shown, onOpen }) {
  const { id, status, output, created_at } = prediction;
  /** @param {MouseEvent} event */
  const open = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // in a tab or window of its own
    event.preventDefault();
    onOpen(prediction);
  };
  const Picture = view.Thumbnail && view.shows?.(output) ? view.Thumbnail : Thumbnail;
  return html`<a href=${`?prediction=${id}`} class=${`card ${shown ? "current" : ""}`} onClick=${open}>
    <${Picture} output=${output} mark=${MARKS[status] ?? "…"} />
    <span class="title">${summaryOf(prediction, view)}</span>
    <span class="about">
      <span class=${`dot ${status}`}></span>
      <span class=${status === "succeeded" ? "hidden" : ""}>${STATUSES[status]} </span>
      <${When} time=${created_at} />
    </span>
  </a>`;
}

/** @type {(prediction: Prediction, view: View) => string} */
function summaryOf({ id, input, data_removed }, view) {
  if (data_removed) return "Data deleted";
  const text = Object.values(input).find((value) => value && typeof value === "string");
  return view.summary?.(input) || `${input["prompt"] || text || id}`;
}

/** @param {{ output: unknown, mark: string }} props */
function Thumbnail({ output, mark }) {
  const file = filesOf(output).find(({ kind }) => kind === "image" || kind === "video");
  if (!file) return html`<span class="thumbnail none" aria-hidden="true">${mark}</span>`;
  if (file.kind === "image") return html`<img class="thumbnail" src=${file.url} alt="" loading="lazy" />`;
  return html`<video
    class="thumbnail"
    src=${`${file.url}#t=0.1`}
    preload="metadata"
    muted
    playsinline
    tabindex="-1"
    aria-hidden="true"
  ></video>`;
}

/** @param {{ time: string }} props */
function When({ time }) {
  const date = new Date(time);
  const isToday = date.toDateString() === new Date().toDateString();
  const text = isToday
    ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" })
    : date.toLocaleDateString([], { day: "numeric", month: "short" });
  return html`<time datetime=${time} title=${date.toLocaleString()}>${text}</time>`;
}

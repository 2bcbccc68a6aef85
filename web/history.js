// Earlier predictions: thumbnails, filters, pages.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { filesOf, get, hasEnded, list, listThumbnails, messageOf, nameOf } from "./api.js";
import { STATUSES } from "./result.js";
import { GENERIC, titleOf } from "./view.js";
/** @import { Model, Prediction, Status, View } from "./types.js" */

/** @type {Partial<Record<Status, string>>} */
const MARKS = { failed: "!", canceled: "×" }; // where there is no picture
const RETRY_MS = 2000;
const POLL_MS = 5000;
const AT_ONCE = 100; // thumbnails in a request
const TABS = new BroadcastChannel("predictions"); // says to the page's other tabs that there is something new
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

/**
 * Load the first page, or if there is one already, only what is newer.
 * @param {Loaded} loaded
 * @returns {Promise<(now: Loaded) => Loaded>} adds it to what is loaded by then
 */
async function loadNewest({ predictions, next }) {
  const newest = predictions[0]?.created_at;
  if (next !== undefined && newest) {
    const news = await list(`?created_after=${encodeURIComponent(newest)}`);
    if (!news.next) return (now) => ({ ...now, predictions: merge(now.predictions, news.results) });
  }
  const page = await list(); // there may be others between its end and what was loaded before
  return () => ({ predictions: page.results, next: page.next });
}

/**
 * Keep the list of predictions. The newest are loaded at the start, on `refresh`, when the window gets the focus, and
 * when another tab has run something; older ones on `more`. `put` adds news of one. The oldest of the running ones that
 * nothing else follows is polled.
 * @param {string | undefined} followedId
 */
export function useHistory(followedId) {
  const [loaded, setLoaded] = useState(/** @type {Loaded} */ ({ predictions: [], next: undefined }));
  const [error, setError] = useState("");
  const queue = useRef(Promise.resolve()); // one request after the other, because they build on each other
  const current = useRef(loaded);
  current.current = loaded;
  const { predictions, next } = loaded;

  /** @param {(now: Loaded) => Promise<(then: Loaded) => Loaded>} request */
  const load = (request) => {
    queue.current = queue.current.then(async () => {
      try {
        const add = await request(current.current);
        setLoaded((then) => (current.current = add(then)));
        setError("");
      } catch (problem) {
        setError(messageOf(problem, "Can't load the history: no response from the server."));
      }
    });
  };
  /** @param {boolean} [told] whether the other tabs are told */
  const refresh = (told = false) => {
    if (told) TABS.postMessage("");
    load(loadNewest);
  };
  const more = () =>
    load(async (now) => {
      if (!now.next) return (then) => then;
      const page = await list(new URL(now.next).search);
      return (then) => ({ predictions: merge(then.predictions, page.results), next: page.next });
    });
  /** @param {Prediction} news */
  const put = (news) => setLoaded((now) => ({ ...now, predictions: merge(now.predictions, [news]) }));

  useEffect(() => {
    const look = () => refresh();
    look();
    addEventListener("focus", look);
    TABS.addEventListener("message", look);
    return () => {
      removeEventListener("focus", look);
      TABS.removeEventListener("message", look);
    };
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
  const thumbnails = useThumbnails(predictions);
  return { predictions, thumbnails, hasMore: Boolean(next), error, more, put, refresh };
}

/** @type {(prediction: Prediction) => boolean} */
const hasImage = ({ status, output }) => status === "succeeded" && filesOf(output).some(({ kind }) => kind === "image");

/**
 * Load the thumbnails of predictions, each once.
 * @param {Prediction[]} predictions
 */
function useThumbnails(predictions) {
  const [thumbnails, setThumbnails] = useState(/** @type {Record<string, string>} */ ({}));
  const asked = useRef(new Set());
  useEffect(() => {
    const ids = predictions.filter((one) => hasImage(one) && !asked.current.has(one.id)).map(({ id }) => id);
    for (let at = 0; at < ids.length; at += AT_ONCE) {
      const some = ids.slice(at, at + AT_ONCE);
      some.forEach((id) => asked.current.add(id));
      listThumbnails(some).then(
        (found) => setThumbnails((known) => ({ ...known, ...found })),
        () => some.forEach((id) => asked.current.delete(id)), // the next change of the list asks again
      );
    }
  }, [predictions]);
  return thumbnails;
}

/**
 * @param {object} props
 * @param {ReturnType<typeof useHistory>} props.past
 * @param {Model[]} props.models
 * @param {Record<string, View>} props.views
 * @param {string | undefined} props.shownId
 * @param {(prediction: Prediction) => void} props.onOpen
 */
export function History({ past, models, views, shownId, onOpen }) {
  const { predictions, thumbnails, hasMore, error, more } = past;
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
      ${
        predictions.length > 0 &&
        html`<${Filter} label="Model" options=${modelOptions} value=${model} onChange=${setModel} />
        <${Filter} label="Status" options=${Object.entries(STATUSES)} value=${status} onChange=${setStatus} />`
      }
      ${Object.entries(views).map(
        ([name, { Recent }]) =>
          Recent && html`<${Recent} key=${name} predictions=${matches.filter((one) => one.model === name)} />`,
      )}
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
              thumbnail=${thumbnails[one.id]}
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

/**
 * @param {object} props
 * @param {Prediction} props.prediction
 * @param {View} props.view
 * @param {string | undefined} props.thumbnail
 * @param {boolean} props.shown
 * @param {(prediction: Prediction) => void} props.onOpen
 */
function Card({ prediction, view, thumbnail, shown, onOpen }) {
  const { id, status, output, created_at } = prediction;
  /** @param {MouseEvent} event */
  const open = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // in a tab or window of its own
    event.preventDefault();
    onOpen(prediction);
  };
  const video = filesOf(output).find(({ kind }) => kind === "video");
  const none = html`<span class="thumbnail none" aria-hidden="true">${MARKS[status] ?? ""}</span>`;
  return html`<a
    href=${`?prediction=${id}`}
    class="card"
    aria-current=${shown ? "true" : undefined}
    onClick=${open}
  >
    ${thumbnail && html`<img class=${`thumbnail ${view.thumbnailClass ?? ""}`} src=${thumbnail} alt="" />`}
    ${!thumbnail && video && html`<${FirstFrame} url=${video.url} />`} ${!thumbnail && !video && none}
    <span class="title">${titleOf(prediction, view)}</span>
    <span class="about">
      <span class=${`dot ${status}`}></span>
      <span class=${status === "succeeded" ? "hidden" : ""}>${STATUSES[status]} </span>
      <${When} time=${created_at} />
    </span>
  </a>`;
}

/**
 * Show a video's first frame once it is in the window: a browser loads no image of a video lazily by itself.
 * @param {{ url: string }} props
 */
function FirstFrame({ url }) {
  const video = useRef(/** @type {HTMLVideoElement | null} */ (null));
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && setSeen(true));
    if (video.current) observer.observe(video.current);
    return () => observer.disconnect();
  }, []);
  return html`<video
    ref=${video}
    class="thumbnail"
    src=${seen ? `${url}#t=0.1` : undefined}
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

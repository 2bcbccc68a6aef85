// A client of the gateway's HTTP API.
/** @import { Model, PageOfPredictions, Prediction, Preview, Values } from "./types.js" */

const TOKEN_KEY = "gateway.token";
const REJECTED = "token-rejected"; // an event on the window
const RETRY_MS = 500; // doubled with each failure in a row
const MAX_RETRY_MS = 5000;
const HIDDEN_POLL_MS = 2000;

/** A response that isn't a success. `fields` lists the inputs that the gateway rejected. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {{ title?: string, detail?: string, invalid_fields?: { field: string, description: string }[] }} problem
   */
  constructor(status, problem) {
    super(problem.detail || problem.title || `The server answered with status ${status}.`);
    this.status = status;
    this.fields = problem.invalid_fields ?? [];
  }
}

/**
 * Describe why a request failed.
 * @param {unknown} error
 * @param {string} [unreachable] what to say if no response came
 */
export function messageOf(error, unreachable = "Can't reach the server.") {
  if (error instanceof TypeError) return unreachable; // fetch raises it when the network fails
  return error instanceof Error ? error.message : String(error);
}

/** Return the token from the link's fragment, where script/serve puts it, or else the stored one. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    storeToken(given);
    history.replaceState(null, "", location.pathname + location.search); // not in bookmarks, nor in screenshots
  }
  return localStorage.getItem(TOKEN_KEY) ?? "";
}

/** @param {string} token empty to forget it */
export function storeToken(token) {
  if (token) localStorage.setItem(TOKEN_KEY, token);
  else localStorage.removeItem(TOKEN_KEY);
}

/**
 * Call `listener` with the reason when the token stops being valid, here or because another tab has signed out.
 * Returns a function that removes it.
 * @param {(reason: string) => void} listener
 */
export function onSignedOut(listener) {
  const over = new AbortController();
  const reject = () => listener("This token is no longer valid. Sign in again.");
  addEventListener(REJECTED, reject, { signal: over.signal });
  const look = (/** @type {StorageEvent} */ { key, newValue }) => key === TOKEN_KEY && !newValue && listener("");
  addEventListener("storage", look, { signal: over.signal });
  return () => over.abort();
}

export const authorization = () => `Bearer ${localStorage.getItem(TOKEN_KEY) ?? ""}`;

/**
 * Return the error of a response that isn't a success. If the token was rejected, that ends the session.
 * @param {number} status
 * @param {object} problem the response's body
 */
export function errorOf(status, problem) {
  if (status === 401) dispatchEvent(new Event(REJECTED));
  return new ApiError(status, problem);
}

/**
 * @param {string} path
 * @param {{ method?: string, body?: object, signal?: AbortSignal }} [options] the body is sent as JSON
 * @returns {Promise<any>}
 */
async function call(path, { method = "GET", body, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = { Authorization: authorization() };
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  if (response.ok) return response.json();
  throw errorOf(response.status, await response.json().catch(() => ({})));
}

/**
 * Point a URL of the gateway's own files and streams at this page's origin, because a gateway can have several names.
 * @param {string} url
 */
function toOwnOrigin(url) {
  if (!/^https?:/.test(url)) return url;
  const { pathname } = new URL(url);
  return /^\/(outputs|v1\/stream)\//.test(pathname) ? pathname : url;
}

/**
 * @param {unknown} output
 * @returns {unknown}
 */
function withOwnFiles(output) {
  if (typeof output === "string") return toOwnOrigin(output);
  if (Array.isArray(output)) return output.map(withOwnFiles);
  if (!output || typeof output !== "object") return output;
  return Object.fromEntries(Object.entries(output).map(([key, value]) => [key, withOwnFiles(value)]));
}

/**
 * @param {Prediction} prediction
 * @returns {Prediction}
 */
const received = (prediction) => ({ ...prediction, output: withOwnFiles(prediction.output) });

/** @param {string} id */
const pathOf = (id) => `/v1/predictions/${encodeURIComponent(id)}`;

/** @param {Model} model */
export const nameOf = ({ owner, name }) => `${owner}/${name}`;

/** @type {(model: Model, input: Values) => boolean} whether a model has all of these inputs */
export const hasInputs = ({ latest_version }, input) =>
  Object.keys(input).every((name) => name in (latest_version.openapi_schema.components.schemas.Input.properties ?? {}));

/**
 * List the models, the oldest first: a new one comes after those that users know.
 * @returns {Promise<Model[]>}
 */
export const listModels = async () => (await call("/v1/models?sort_direction=asc")).results;

/**
 * @param {string} version
 * @param {Values} input
 */
export const create = async (version, input) =>
  received(await call("/v1/predictions", { method: "POST", body: { version, input } }));

/**
 * @param {string} id
 * @param {AbortSignal} [signal]
 */
export const get = async (id, signal) => received(await call(pathOf(id), { signal }));

/** @param {string} id */
export const cancel = (id) => call(`${pathOf(id)}/cancel`, { method: "POST" });

/**
 * List predictions, newest first.
 * @param {string} [query] narrows the list, such as ?created_after=2026-01-31T21:00:00Z, or is that of a page's `next`
 * @returns {Promise<PageOfPredictions>}
 */
export async function list(query = "") {
  const page = await call(`/v1/predictions${query}`);
  return { ...page, results: page.results.map(received) };
}

/**
 * Return small images of predictions whose output has one, as data URLs by id. One request brings them all.
 * @param {string[]} ids
 * @returns {Promise<Record<string, string>>}
 */
export const listThumbnails = (ids) => call(`/v1/thumbnails?ids=${ids.join(",")}`);

/**
 * Ask the model's preview server about an input. Raises ApiError 404 if the model has none.
 * @param {Model} model
 * @param {Values} input
 * @param {AbortSignal} signal
 * @returns {Promise<Preview>}
 */
export const preview = (model, input, signal) =>
  call(`/v1/models/${nameOf(model)}/preview`, { method: "POST", body: { input }, signal });

/** @param {Pick<Prediction, "status">} prediction */
export const hasEnded = ({ status }) => ["succeeded", "failed", "canceled"].includes(status);

/**
 * Wait, or raise the signal's reason when it is aborted.
 * @param {number} ms
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
  });
}

/**
 * Follow a prediction to its end, over lost connections, and return it as it is then.
 * @param {Prediction} prediction
 * @param {(news: Prediction, position: number | null) => void} onNews the position in the queue counts from 1
 * @param {(lost: boolean) => void} onLost whether the server can't be reached
 * @param {AbortSignal} signal
 */
export async function follow(prediction, onNews, onLost, signal) {
  let latest = prediction;
  let failures = 0;
  while (!hasEnded(latest)) {
    try {
      // A browser opens six connections to a server at most, for all its tabs together. Hidden ones leave them alone.
      if (document.hidden) await pause(HIDDEN_POLL_MS, signal);
      else if (!failures) await listen(latest, onNews, signal);
      latest = await get(latest.id, signal);
      failures = 0;
      onLost(false);
      onNews(latest, null);
      if (!hasEnded(latest)) await pause(RETRY_MS, signal);
    } catch (error) {
      if (signal.aborted || (error instanceof ApiError && error.status < 500)) throw error;
      failures += 1;
      onLost(true);
      await pause(Math.min(RETRY_MS * 2 ** (failures - 1), MAX_RETRY_MS), signal);
    }
  }
  return latest;
}

/**
 * Pass on what a prediction's event stream reports, until the prediction ends, the connection breaks or the page is
 * hidden.
 * @param {Prediction} prediction
 * @param {(news: Prediction, position: number | null) => void} onNews
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function listen(prediction, onNews, signal) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(`${toOwnOrigin(prediction.urls.stream)}?logs=1&status=1`);
    const over = new AbortController(); // removes the listeners
    const end = () => {
      source.close();
      over.abort();
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    /** @type {(type: string, listener: (event: any) => void) => void} */
    const on = (type, listener) => source.addEventListener(type, listener, { signal: over.signal });
    const news = { status: prediction.status, position: null, logs: "" };
    /** @type {string[]} */
    const items = []; // of the output of a running iterator
    const tell = () => {
      const { status, position, logs } = news;
      if (hasEnded(news)) return; // then the prediction is requested as a whole
      const output = items.length ? [...items] : prediction.output;
      onNews({ ...prediction, status, logs: logs || prediction.logs, output }, position);
    };
    on("status", ({ data }) => {
      Object.assign(news, JSON.parse(data));
      tell();
    });
    on("logs", ({ data }) => {
      news.logs += data;
      tell();
    });
    on("output", ({ data }) => {
      items.push(toOwnOrigin(data));
      tell();
    });
    on("done", end);
    on("error", (event) => {
      if (!("data" in event)) end(); // with data it is the prediction's error, and `done` follows
    });
    document.addEventListener("visibilitychange", end, { signal: over.signal });
    signal.addEventListener("abort", end, { signal: over.signal });
    if (signal.aborted) end();
  });
}

const KINDS = {
  image: /\.(png|jpe?g|gif|webp)(\?|$)|^data:image\//,
  audio: /\.(wav|mp3|ogg|flac)(\?|$)|^data:audio\//,
  video: /\.(mp4|webm|mov)(\?|$)|^data:video\//,
};

/** @typedef {{ name: string, url: string, kind: string | undefined }} OutputFile */

/**
 * List the files of an output, whatever its shape.
 * @param {unknown} output
 * @returns {OutputFile[]}
 */
export function filesOf(output, name = "output") {
  if (Array.isArray(output)) return output.flatMap((item, index) => filesOf(item, `${name} ${index + 1}`));
  if (output && typeof output === "object") return Object.entries(output).flatMap(([key, item]) => filesOf(item, key));
  if (typeof output !== "string" || !/^(https?:|data:|\/outputs\/)/.test(output)) return [];
  return [{ name, url: output, kind: Object.entries(KINDS).find(([, pattern]) => pattern.test(output))?.[0] }];
}

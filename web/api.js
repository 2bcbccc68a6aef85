// The documented API as this page uses it, and two routes beside it: preview and queue.

const KEPT = "gateway.token";
const POLL_MS = 400;
const LONGEST_PAUSE_MS = 5000;

/** An answer that is no success. `fields` names the inputs that were refused: [{field, description}]. */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `The server answered ${status}.`);
    this.status = status;
    this.fields = problem.invalid_fields ?? [];
    this.retryAfterS = problem.retry_after;
  }
}

/** Take the token from the link's fragment, where script/serve puts it, or the one that was kept. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    keepToken(given);
    history.replaceState(null, "", location.pathname + location.search); // not in bookmarks, nor in screenshots
  }
  return localStorage.getItem(KEPT) ?? "";
}

export function keepToken(token) {
  if (token) localStorage.setItem(KEPT, token);
  else localStorage.removeItem(KEPT);
}

async function call(path, { method = "GET", body, signal } = {}) {
  const headers = { Authorization: `Bearer ${localStorage.getItem(KEPT) ?? ""}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  if (response.ok) return response.json();
  const problem = await response.json().catch(() => ({}));
  throw new ApiError(response.status, problem);
}

/** Let the files of an output come from where the page came from: its server may have several names. */
function ownFiles(output) {
  if (typeof output === "string") return /^https?:/.test(output) && new URL(output).pathname.startsWith("/outputs/") ? new URL(output).pathname : output;
  if (Array.isArray(output)) return output.map(ownFiles);
  if (output && typeof output === "object") return Object.fromEntries(Object.entries(output).map(([key, value]) => [key, ownFiles(value)]));
  return output;
}

const prediction = async (asked) => {
  const answer = await asked;
  return { ...answer, output: ownFiles(answer.output) };
};

export const models = async () => (await call("/v1/models")).results;
export const create = (version, input) => prediction(call("/v1/predictions", { method: "POST", body: { version, input } }));
export const get = (id, signal) => prediction(call(`/v1/predictions/${encodeURIComponent(id)}`, { signal }));
export const cancel = (id) => call(`/v1/predictions/${encodeURIComponent(id)}/cancel`, { method: "POST" });
/** Return a page of predictions, the newest first: {results, next}; `next` asks for the one after it. */
export async function page(next) {
  const answer = await call(next ? new URL(next).pathname + new URL(next).search : "/v1/predictions");
  return { ...answer, results: await Promise.all(answer.results.map(prediction)) };
}

export const queue = (id, signal) => call(`/v1/predictions/${encodeURIComponent(id)}/queue`, { signal });
export const preview = (model, input, signal) =>
  call(`/v1/models/${model.owner}/${model.name}/preview`, { method: "POST", body: { input }, signal });

export const ended = (prediction) => ["succeeded", "failed", "canceled"].includes(prediction.status);

/** Pause, or end early with the signal. */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => (clearTimeout(timer), reject(signal.reason));
    const timer = setTimeout(() => (signal?.removeEventListener("abort", stop), resolve()), ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Follow a prediction to its end. `onChange(prediction, place)` is called with each news; place is its place in the
 * queue, from 1, while it waits; `onLost(true)` when the server does not answer, `onLost(false)` when it does again.
 */
export async function follow(id, onChange, onLost, signal) {
  let failures = 0;
  for (;;) {
    try {
      const prediction = await get(id, signal);
      const place = prediction.status === "starting" ? (await queue(id, signal)).position : null;
      if (failures) onLost(false);
      failures = 0;
      onChange(prediction, place);
      if (ended(prediction)) return prediction;
    } catch (error) {
      if (signal.aborted || (error instanceof ApiError && error.status < 500)) throw error;
      failures += 1;
      onLost(true);
    }
    await pause(Math.min(POLL_MS * 2 ** Math.min(failures, 4), LONGEST_PAUSE_MS), signal);
  }
}

/** Say what stands in the logs as progress: {percent, done, total} of the last line that tells it, or null. */
export function progress(logs) {
  const found = [...logs.matchAll(/^\s*(\d+)%\s*\|.+?\|\s*(\d+)\/(\d+)/gm)].at(-1);
  return found ? { percent: Number(found[1]), done: Number(found[2]), total: Number(found[3]) } : null;
}

/** List the files of an output: [{name, url}], whatever its shape. */
export function files(output, name = "output") {
  if (typeof output === "string") return /^(https?:|data:|\/outputs\/)/.test(output) ? [{ name, url: output }] : [];
  if (Array.isArray(output)) return output.flatMap((item, index) => files(item, `${name} ${index + 1}`));
  if (output && typeof output === "object") return Object.entries(output).flatMap(([key, value]) => files(value, key));
  return [];
}

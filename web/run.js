// Running a prediction, and following the one that is shown.
import { useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { ApiError, cancel as cancelPrediction, create, follow, hasEnded, messageOf } from "./api.js";
/** @import { Input, Prediction, Values, Version } from "./types.js" */

/** @typedef {{ prediction: Prediction, position: number | null, kept: Prediction | null }} ShownState */

/**
 * Keep the prediction that is shown up to date. `kept` is the one before a run, whose output stays until there is a new
 * one.
 * @param {(news: Prediction) => void} onNews
 * @param {(error: unknown) => void} onError
 */
export function useShown(onNews, onError) {
  const [shown, setShown] = useState(/** @type {ShownState | null} */ (null));
  const [lost, setLost] = useState(false);
  const following = useRef(/** @type {AbortController | null} */ (null));
  const latest = useRef(/** @type {Record<string, Prediction>} */ ({})); // by model

  const stop = () => following.current?.abort(new Error("another prediction is shown"));
  useEffect(() => stop, []);

  /** @type {(prediction: Prediction, position?: number | null) => void} */
  const put = (prediction, position = null) => {
    latest.current[prediction.model] = prediction;
    setShown((before) => ({ prediction, position, kept: before?.kept ?? null }));
  };
  /** @type {(prediction: Prediction, keeping?: boolean) => void} */
  const show = (prediction, keeping = false) => {
    stop();
    const { signal } = (following.current = new AbortController());
    setShown((before) => {
      const last = before && before.prediction.output !== null ? before.prediction : before?.kept;
      const kept = keeping && last?.model === prediction.model ? last : null;
      return { prediction, position: null, kept };
    });
    put(prediction);
    setLost(false);
    /** @type {(news: Prediction, where: number | null) => void} */
    const tell = (news, where) => {
      put(news, where);
      onNews(news);
    };
    follow(prediction, tell, setLost, signal).catch((error) => {
      if (!signal.aborted) onError(error);
    });
  };
  const hide = () => {
    stop();
    setShown(null);
  };
  /** Return the prediction of a model that was shown last. */
  const latestOf = (/** @type {string} */ model) => latest.current[model];
  const { prediction, position, kept } = shown ?? { prediction: null, position: null, kept: null };
  return { prediction, position, kept, lost, show, hide, latestOf };
}

/**
 * Run predictions and cancel them. `errors` has a message for each input that was rejected, `problem` one for the rest.
 * @param {(started: Prediction) => void} onStart
 */
export function useRun(onStart) {
  const [errors, setErrors] = useState(/** @type {Record<string, string>} */ ({}));
  const [problem, setProblem] = useState("");
  const [startedId, setStartedId] = useState("");
  const sending = useRef(/** @type {{ canceled: boolean } | null} */ (null)); // Escape may come before the answer

  /** @type {(error: unknown, unknown?: string) => void} with a message for 404 */
  const fail = (error, unknown = "") => {
    const isUnknown = unknown && error instanceof ApiError && error.status === 404;
    setProblem(isUnknown ? unknown : messageOf(error));
  };
  const clear = () => {
    setErrors({});
    setProblem("");
  };
  /** @param {ApiError} error */
  const reject = ({ fields }) => {
    const named = fields.map(({ field, description }) => [field.replace(/^input\./, ""), inWords(description)]);
    setErrors(Object.fromEntries(named));
    setProblem(named.length === 1 ? "1 input needs attention." : `${named.length} inputs need attention.`);
  };

  /** @type {(version: Version, input: Values) => Promise<void>} */
  const run = async (version, input) => {
    clear();
    const sent = (sending.current = { canceled: false });
    try {
      const started = await create(version.id, input);
      if (sent.canceled) cancelPrediction(started.id).catch(fail);
      setStartedId(started.id);
      onStart(started);
    } catch (error) {
      if (error instanceof ApiError && error.fields.length) reject(error);
      else setProblem(messageOf(error, "Can't reach the server. Nothing was submitted."));
    } finally {
      if (sending.current === sent) sending.current = null;
    }
  };
  /** @param {Prediction | null} prediction the one that is shown */
  const cancel = (prediction) => {
    if (sending.current) sending.current.canceled = true;
    else if (prediction && !hasEnded(prediction)) cancelPrediction(prediction.id).catch(fail);
  };
  return { errors, problem, startedId, run, cancel, clear, fail };
}

/** @param {string} description of an input that was rejected, for programmers */
const inWords = (description) =>
  description
    .replace(/^Invalid type\. Expected: number\b.*/, "Enter a number.")
    .replace(/^Invalid type\. Expected: integer\b.*/, "Enter a whole number.");

/**
 * Call `onRun` for Ctrl+Enter and `onCancel` for Escape.
 * @param {{ onRun: () => void, onCancel: () => void }} actions
 */
export function useShortcuts(actions) {
  const current = useRef(actions);
  current.current = actions;
  useEffect(() => {
    /** @param {KeyboardEvent} event */
    const press = (event) => {
      if (event.key === "Escape") current.current.onCancel();
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      current.current.onRun();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

/**
 * Assign a model's own error messages to the inputs that they begin with, such as "NAME, keyframe 0: ...", as long as
 * the form still shows what the model rejected.
 * @param {Prediction | null} prediction
 * @param {Input[]} inputs
 * @param {Values} input
 */
export function rejectedBy(prediction, inputs, input) {
  /** @type {Record<string, string>} */
  const found = {};
  if (prediction?.status !== "failed" || !prediction.error) return found;
  for (const line of prediction.error.split("\n")) {
    const named = inputs.find(({ name }) => line.startsWith(name) && !/\w/.test(line[name.length] ?? " "));
    if (!named || input[named.name] !== prediction.input[named.name]) continue;
    found[named.name] = found[named.name] ? `${found[named.name]}\n${line}` : line;
  }
  return found;
}

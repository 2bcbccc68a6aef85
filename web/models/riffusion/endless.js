// Endless: prompts that blend into one another, clip by clip. While one clip plays, the next ones are made. All clips
// of a seed image are two bars long, so each starts on the bar.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact-3.1.1.js";
import { cancel, create, follow, hasEnded, messageOf, pause } from "../../api.js";
import { animate } from "../../drawing.js";
import { Volume, clipOf, titleOf } from "./clip.js";
import { Sequence, audio, load } from "./sound.js";
/** @import { PanelProps, Prediction, Values, Version } from "../../types.js" */
/** @import { Titled } from "./sound.js" */

/** @typedef {Titled & { at_s: number, key: number }} Placed a clip and when it is heard, by the AudioContext's clock */
/** @typedef {{ prompts: string[], clips: number }} Plan the prompts, and the clips from each one to the next */
/** @typedef {{ stop: AbortController, sequence: Sequence }} Playing */

const READY = 2; // clips that are made ahead: few, so that a new prompt is heard soon
const KEPT = 16; // clips that are remembered
const EXPORTED_S = 60;
const RETRY_MS = 2000;
const MAX_CLIPS = 16; // per transition
const PROMPTS = ["funky synth solo", "church bells", ""];

/** @type {{ prompts: string[], clips: number } | null} */
let typed = null; // kept while the panel is closed

/**
 * Return the inputs of the n-th clip. From one prompt to the next, alpha rises in equal steps.
 * @type {(plan: Plan, n: number) => Values}
 */
function inputOf({ prompts, clips }, n) {
  const leg = Math.floor(n / clips) % prompts.length;
  const alpha = (n % clips) / clips;
  const prompt_a = prompts[leg];
  return alpha === 0 ? { prompt_a } : { prompt_a, prompt_b: prompts[(leg + 1) % prompts.length], alpha };
}

/**
 * Make clips and push them to `ready` until the signal is aborted.
 * @param {object} props
 * @param {Version} props.version
 * @param {Values} props.settings the other inputs
 * @param {{ current: Plan }} props.plan read again for each clip
 * @param {Titled[]} props.ready
 * @param {(problem: string) => void} props.onProblem
 * @param {(news: Prediction) => void} props.onNews
 * @param {AbortSignal} signal
 */
async function makeClips({ version, settings, plan, ready, onProblem, onNews }, signal) {
  const { prompt_a: _a, prompt_b: _b, alpha: _alpha, ...rest } = settings;
  const onLost = (/** @type {boolean} */ lost) => onProblem(lost ? "Connection lost. Reconnecting…" : "");
  let n = 0;
  while (!signal.aborted) {
    try {
      const { current } = plan;
      if (ready.length >= READY || !current.prompts.length) {
        await pause(100, signal);
        continue;
      }
      const input = { ...rest, ...inputOf(current, n) };
      const ended = await make(version, input, onLost, signal);
      onNews(ended);
      if (current !== plan.current) continue; // its prompts have changed meanwhile
      if (ended.status !== "succeeded") throw new Error(ended.error || `A prediction was ${ended.status}.`);
      const { audio: sound, spectrogram } = clipOf(ended);
      ready.push({ buffer: await load(sound), picture: spectrogram, title: titleOf(input) });
      onProblem("");
      n += 1;
    } catch (error) {
      if (signal.aborted) return;
      onProblem(messageOf(error));
      await pause(RETRY_MS, signal).catch(() => {});
    }
  }
}

/**
 * Run a prediction to its end. When the signal is aborted, it is canceled.
 * @param {Version} version
 * @param {Values} input
 * @param {(lost: boolean) => void} onLost
 * @param {AbortSignal} signal
 */
async function make(version, input, onLost, signal) {
  const created = await create(version.id, input);
  const end = () => void cancel(created.id).catch(() => {});
  signal.addEventListener("abort", end);
  if (signal.aborted && !hasEnded(created)) end();
  try {
    return await follow(created, () => {}, onLost, signal);
  } finally {
    signal.removeEventListener("abort", end);
  }
}

/**
 * Start and stop the sequence, and keep the clips that were heard.
 * @param {Version} version
 * @param {Values} settings
 * @param {Plan} plan
 * @param {(news: Prediction) => void} onNews
 */
function useEndless(version, settings, plan, onNews) {
  const [state, setState] = useState(/** @type {"stopped" | "waiting" | "playing"} */ ("stopped"));
  const [problem, setProblem] = useState("");
  const [placed, setPlaced] = useState(/** @type {Placed[]} */ ([]));
  const [heard, setHeard] = useState(/** @type {Titled | null} */ (null));
  const playing = useRef(/** @type {Playing | null} */ (null));
  const ready = useRef(/** @type {Titled[]} */ ([]));
  const current = useRef(plan);
  const key = JSON.stringify(plan);
  useEffect(() => {
    current.current = plan;
    ready.current.length = 0; // so that a new prompt is heard soon
  }, [key]);

  const stop = () => {
    const stopped = playing.current;
    playing.current = null;
    stopped?.stop.abort(new Error("stopped"));
    stopped?.sequence.stop();
    setState("stopped");
  };
  /** @type {(clip: Titled, at_s: number) => void} */
  const onPlaced = (clip, at_s) =>
    setPlaced((clips) => [...clips, { ...clip, at_s, key: (clips.at(-1)?.key ?? 0) + 1 }].slice(-KEPT));
  /** @param {Titled} clip */
  const onHeard = (clip) => {
    setState("playing");
    setHeard(clip);
  };
  const start = () => {
    audio();
    ready.current.length = 0;
    const next = () => ready.current.shift() ?? null;
    playing.current = {
      stop: new AbortController(),
      sequence: new Sequence({ next, onPlaced, onHeard, onStop: stop }),
    };
    setProblem("");
    setPlaced([]);
    setState("waiting");
    playing.current.sequence.start();
    const made = { version, settings, plan: current, ready: ready.current, onProblem: setProblem, onNews };
    void makeClips(made, playing.current.stop.signal);
  };
  useEffect(() => stop, []);
  return { state, problem, placed, heard, start, stop };
}

/** @param {PanelProps} props */
export function Endless({ version, input, onNews, onClose }) {
  const given = [`${input["prompt_a"] || PROMPTS[0]}`, `${input["prompt_b"] || PROMPTS[1]}`, ""];
  const [prompts, setPrompts] = useState(typed?.prompts ?? given);
  const [clips, setClips] = useState(typed?.clips ?? 4);
  typed = { prompts, clips };
  const title = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => title.current?.focus(), []);
  const plan = { prompts: prompts.map((prompt) => prompt.trim()).filter(Boolean), clips };
  const { state, problem, placed, heard, start, stop } = useEndless(version, input, plan, onNews);
  const isStopped = state === "stopped";
  const exportMinute = async () => {
    const count = Math.ceil(EXPORTED_S / (placed[0]?.buffer.duration ?? 1));
    const { saveJoined } = await import("../../wav.js");
    const buffers = placed.slice(-count).map(({ buffer }) => buffer);
    saveJoined(buffers, "last-minute.wav");
  };
  return html`<section class="endless" aria-labelledby="endless-title">
    <div class="controls">
      <h2 id="endless-title" tabindex="-1" ref=${title}>Endless</h2>
      <button type="button" class="quiet" onClick=${onClose}>Close</button>
    </div>
    <p class="about">
      Blends two or three prompts into one another, clip by clip, with the form's other inputs. Changes are heard within
      a few clips.
    </p>
    <${Prompts} prompts=${prompts} onChange=${setPrompts} />
    <${ClipCount} value=${clips} onChange=${setClips} />
    <div class="controls">
      <button
        type="button"
        class="primary"
        onClick=${isStopped ? start : stop}
        disabled=${isStopped && !plan.prompts.length}
      >
        ${isStopped ? "Start" : "Stop"}
      </button>
      <${Volume} />
      <button type="button" onClick=${exportMinute} disabled=${!placed.length}>Export the last minute</button>
    </div>
    <p role="status" class=${problem ? "error" : "about"}>${problem || describe(state, heard)}</p>
    <${Rolling} clips=${placed} playing=${state === "playing"} />
  </section>`;
}

/** @type {(state: string, clip: Titled | null) => string} */
function describe(state, clip) {
  if (state === "waiting") return "Making the first clip…";
  if (state === "stopped" || !clip) return "";
  return clip.repeated ? `${clip.title} · Repeating: the next clip isn't ready yet` : clip.title;
}

/** @typedef {{ target: HTMLInputElement }} Typed an event */

/** @param {{ prompts: string[], onChange: (prompts: string[]) => void }} props */
function Prompts({ prompts, onChange }) {
  const fields = prompts.map((prompt, index) => {
    const type = (/** @type {Typed} */ { target }) => onChange(prompts.with(index, target.value));
    return html`<label key=${index} class="field">
      <span>Prompt ${index + 1}${index === 2 && " (optional)"}</span>
      <input type="text" value=${prompt} onInput=${type} />
    </label>`;
  });
  return html`<div class="pair">${fields}</div>`;
}

/** @param {{ value: number, onChange: (value: number) => void }} props */
function ClipCount({ value, onChange }) {
  const type = (/** @type {Typed} */ { target }) =>
    onChange(Math.min(Math.max(Number(target.value) || 1, 1), MAX_CLIPS));
  return html`<label class="inline">
    Clips per transition <input type="number" min="1" max=${MAX_CLIPS} value=${value} onInput=${type} />
  </label>`;
}

/**
 * Let the spectrograms roll by. The line in the middle is what is heard now.
 * @param {{ clips: Placed[], playing: boolean }} props
 */
function Rolling({ clips, playing }) {
  const tape = useRef(/** @type {HTMLElement | null} */ (null));
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const first = clips[0];
    if (!playing || !first) return undefined;
    return animate(() => {
      if (!tape.current || !box.current) return;
      const clip_px = tape.current.firstElementChild?.getBoundingClientRect().width ?? 0;
      const passed = (audio().currentTime - first.at_s) / first.buffer.duration; // in clips
      tape.current.style.transform = `translateX(${box.current.clientWidth / 2 - passed * clip_px}px)`;
    });
  }, [clips, playing]);
  if (!clips.length) return null;
  const pictures = clips.map(({ key, picture }) => html`<img key=${key} class="coloured" src=${picture} alt="" />`);
  return html`<div class="rolling" ref=${box} aria-hidden="true">
    <div class="tape" ref=${tape}>${pictures}</div>
    <div class="playhead"></div>
  </div>`;
}

// Endless: prompts that turn into one another, clip by clip, for as long as one listens. While one clip plays the next
// are made; each enters on the bar, since all clips of a seed are two bars of one length.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { create, follow, pause } from "./api.js";
import { Volume } from "./clip.js";
import { Sequence, audio, load, save, toWav } from "./sound.js";

const AHEAD = 2; // clips that are ready before they are heard: no more, so that a new prompt is heard soon
const KEPT_S = 60;
const RETRY_MS = 2000;

/** Say which clip is the n-th: between two neighbours of the prompts, alpha goes in equal parts from one to the next. */
export function step(prompts, parts, n) {
  const leg = Math.floor(n / parts) % prompts.length;
  const alpha = (n % parts) / parts;
  const [from, to] = [prompts[leg], prompts[(leg + 1) % prompts.length]];
  return alpha === 0 ? { prompt_a: from } : { prompt_a: from, prompt_b: to, alpha };
}

export function Endless({ version, settings, onClose }) {
  const [prompts, setPrompts] = useState(() => [settings.prompt_a || "funky synth solo", settings.prompt_b || "church bells", ""]);
  const [parts, setParts] = useState(4);
  const [state, setState] = useState("stopped"); // stopped, first, playing
  const [problem, setProblem] = useState("");
  const [repeating, setRepeating] = useState(false);
  const [heard, setHeard] = useState([]); // the clips that were heard, the last one last
  const run = useRef(null);
  const wanted = useRef();
  wanted.current = { prompts: prompts.map((prompt) => prompt.trim()).filter(Boolean), parts };

  const start = () => {
    audio();
    const stop = new AbortController();
    const ready = [];
    const sequence = new Sequence(
      () => ready.shift() ?? null,
      (clip, at_s) => {
        setState("playing");
        setRepeating(Boolean(clip.repeated));
        setHeard((clips) => [...clips, { ...clip, at_s, key: clips.length ? clips.at(-1).key + 1 : 0 }].slice(-16));
      },
      () => end(),
    );
    run.current = { stop, sequence };
    setProblem("");
    setHeard([]);
    setState("first");
    sequence.start();
    make(version, settings, wanted, ready, setProblem, stop.signal);
  };
  const end = () => {
    const ended = run.current;
    run.current = null;
    ended?.stop.abort(new Error("stopped"));
    ended?.sequence.stop();
    setState("stopped");
    setRepeating(false);
  };
  useEffect(() => end, []);

  const saveMinute = () => {
    const length_s = heard[0]?.buffer.duration ?? 1;
    save(toWav(heard.slice(-Math.ceil(KEPT_S / length_s)).map((clip) => clip.buffer)), "last-minute.wav");
  };
  const now = heard.at(-1);
  return html`<section class="endless" aria-labelledby="endless-title">
    <div class="controls">
      <h2 id="endless-title">Endless</h2>
      <button type="button" class="quiet" onClick=${() => (end(), onClose())}>close</button>
    </div>
    <p class="about">Two or three prompts turn into one another, clip by clip, with the settings of the form. What you type is heard from the next clip on.</p>
    ${prompts.map(
      (prompt, index) => html`<label key=${index} class="field">
        <span>${["from", "to", "then (may stay blank)"][index]}</span>
        <input type="text" value=${prompt} onInput=${(event) => setPrompts(prompts.map((one, which) => (which === index ? event.target.value : one)))} />
      </label>`,
    )}
    <label class="inline">clips from one to the next <input type="number" min="1" max="16" value=${parts} onInput=${(event) => setParts(Math.min(Math.max(Number(event.target.value) || 1, 1), 16))} /></label>
    <div class="controls">
      <button type="button" class="primary" onClick=${state === "stopped" ? start : end} disabled=${state === "stopped" && wanted.current.prompts.length < 1}>${state === "stopped" ? "Start" : "Stop"}</button>
      <${Volume} />
      <button type="button" onClick=${saveMinute} disabled=${!heard.length}>Save the last minute</button>
    </div>
    <p role="status" class=${problem ? "error" : "about"}>
      ${problem || { stopped: "", first: "The first clip is being made …", playing: now ? `${now.title}${repeating ? " · once more: the model is slower than the sound" : ""}` : "" }[state]}
    </p>
    <${Rolling} clips=${heard} playing=${state === "playing"} />
  </section>`;
}

/** Make clips, a few ahead of what is heard, until the signal comes. */
async function make(version, settings, wanted, ready, onProblem, signal) {
  const { prompt_a: _a, prompt_b: _b, alpha: _alpha, ...rest } = settings;
  for (let n = 0; !signal.aborted; ) {
    try {
      if (ready.length >= AHEAD || !wanted.current.prompts.length) {
        await pause(100, signal);
        continue;
      }
      const input = { ...rest, ...step(wanted.current.prompts, wanted.current.parts, n) };
      const { id } = await create(version.id, input);
      const ended = await follow(id, () => {}, (lost) => onProblem(lost ? "No connection; trying again …" : ""), signal);
      if (ended.status !== "succeeded") throw new Error(ended.error || `A clip was ${ended.status}.`);
      const title = input.prompt_b ? `${input.prompt_a} → ${input.prompt_b} (${input.alpha})` : input.prompt_a;
      ready.push({ buffer: await load(ended.output.audio), picture: ended.output.spectrogram, title });
      onProblem("");
      n += 1;
    } catch (error) {
      if (signal.aborted) return;
      onProblem(error.message);
      await pause(RETRY_MS, signal).catch(() => {});
    }
  }
}

/** Let the spectrograms roll by: the line in the middle is now. */
function Rolling({ clips, playing }) {
  const strip = useRef();
  const box = useRef();
  useEffect(() => {
    if (!playing || !clips.length) return undefined;
    let request;
    const move = () => {
      const now = audio().currentTime;
      const first = clips[0];
      const width = strip.current.firstElementChild?.getBoundingClientRect().width ?? 0;
      const passed = (now - first.at_s) / first.buffer.duration;
      strip.current.style.transform = `translateX(${box.current.clientWidth / 2 - passed * width}px)`;
      request = requestAnimationFrame(move);
    };
    move();
    return () => cancelAnimationFrame(request);
  }, [clips, playing]);
  if (!clips.length) return null;
  return html`<div class="rolling" ref=${box} aria-hidden="true">
    <div class="tape" ref=${strip}>${clips.map((clip) => html`<img key=${clip.key} src=${clip.picture} alt="" />`)}</div>
    <div class="playhead"></div>
  </div>`;
}

// A clip: its spectrogram to look at and to seek in, its sound, and a pinned clip to compare it with.
import { html, useEffect, useMemo, useReducer, useState } from "../../vendor/htm-preact-3.1.1.js";
import { messageOf } from "../../api.js";
import { fileName } from "../../view.js";
import { Player, Sequence, audio, isSounding, load, loudness, setLoudness } from "./sound.js";
import { Spectrogram } from "./spectrogram.js";
/** @import { OutputProps, Prediction, Values } from "../../types.js" */

/** @typedef {{ audio: string, spectrogram: string }} ClipOutput the URLs of its files */

const CLIP_S = 5.11; // until the sound is loaded
const SEQUENCE_LENGTH = 8;

/** @type {(output: unknown) => boolean} */
export const isClip = (output) =>
  typeof output === "object" && output !== null && "audio" in output && "spectrogram" in output;

/** @param {Prediction} prediction whose output is a clip */
export const clipOf = ({ output }) => /** @type {ClipOutput} */ (output);

/**
 * Describe a clip by its prompts.
 * @param {Values} input
 */
export const titleOf = ({ prompt_a, prompt_b, alpha }) =>
  prompt_b ? `${prompt_a ?? ""} → ${prompt_b} (${alpha ?? 0.5})` : `${prompt_a ?? ""}`;

/** @param {Prediction[]} clips */
const loadAll = (clips) => Promise.all(clips.map((clip) => load(clipOf(clip).audio)));

const autoplayed = new Set(); // ids of predictions: each plays by itself once

/**
 * Load clips into a player and return it, with the error if that fails. While they load, it plays on.
 * @param {Prediction[]} clips the first one is the result that is shown
 * @param {boolean} fresh
 */
function usePlayer(clips, fresh) {
  const player = useMemo(() => new Player(), []);
  const [, redraw] = useReducer((/** @type {number} */ count) => count + 1, 0);
  const [error, setError] = useState("");
  const id = clips[0]?.id;
  useEffect(() => {
    player.onChange = () => redraw(undefined);
    return () => player.stop();
  }, []);
  useEffect(() => {
    let current = true;
    setError("");
    loadAll(clips).then(
      (buffers) => {
        if (!current) return;
        player.setBuffers(buffers);
        if (!fresh || autoplayed.has(id)) return;
        autoplayed.add(id);
        if (isSounding()) return;
        player.seek(0);
        player.play();
      },
      (problem) => current && setError(messageOf(problem)),
    );
    return () => void (current = false);
  }, [clips]);
  return { player, error };
}

/** @param {OutputProps} props */
export function Clip({ prediction, fresh, pinned, onPin }) {
  const other = pinned && pinned.id !== prediction.id && isClip(pinned.output) ? pinned : null;
  const clips = useMemo(() => (other ? [prediction, other] : [prediction]), [prediction.id, other?.id]);
  const { player, error } = usePlayer(clips, fresh);
  const { audio: sound, spectrogram } = clipOf(prediction);
  const isPinned = pinned?.id === prediction.id;
  const saved = (/** @type {string} */ suffix) => fileName(titleOf(prediction.input), prediction.id, suffix);
  const toggle = () => {
    audio();
    player.toggle();
  };
  return html`<section class="clip" aria-label="Clip">
    <div class=${other ? "pair" : ""}>
      ${clips.map(
        (clip, index) => html`<${Take} key=${index} clip=${clip} player=${player} letter=${other && "AB"[index]} />`,
      )}
    </div>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <div class="controls actions">
      <div class="controls" role="group" aria-label="Playback">
        <button type="button" class="primary play" onClick=${toggle} disabled=${!player.duration_s}>
          <span aria-hidden="true">${player.playing ? "❚❚" : "▶"}</span> ${player.playing ? "Pause" : "Play"}
        </button>
        <${Loop} player=${player} />
        <${Volume} />
      </div>
      <div class="controls" role="group" aria-label="Compare">
        ${isPinned && html`<span class="about">Pinned as B. Run or open another clip.</span>`}
        ${!isPinned && html`<button type="button" onClick=${() => onPin(prediction)}>Pin for A/B</button>`}
        ${(other || isPinned) && html`<button type="button" onClick=${() => onPin(null)}>Unpin</button>`}
      </div>
      <div class="controls" role="group" aria-label="Download">
        <span class="about" aria-hidden="true">Download</span>
        <a href=${sound} download=${saved("wav")}>WAV</a>
        <a href=${spectrogram} download=${saved("png")}>PNG</a>
      </div>
    </div>
  </section>`;
}

/**
 * One clip's spectrogram; if there are two, with the button that lets it be heard.
 * @param {{ clip: Prediction, player: Player, letter: "A" | "B" | null }} props
 */
function Take({ clip, player, letter }) {
  const title = titleOf(clip.input) || "the clip";
  const index = letter === "B" ? 1 : 0;
  const heard = index === player.heard;
  const choose = () => player.hear(index);
  const button = html`<button type="button" aria-pressed=${heard ? "true" : "false"} onClick=${choose}>
    <span class="title">${letter} <bdi>${title}</bdi></span>
  </button>`;
  return html`<div class=${`take ${letter && heard ? "heard" : ""}`}>
    ${letter && button}
    <${Spectrogram}
      url=${clipOf(clip).spectrogram}
      player=${player}
      duration_s=${player.duration_s || CLIP_S}
      label=${title}
    />
  </div>`;
}

/** @param {{ player: Player }} props */
function Loop({ player }) {
  const change = (/** @type {{ target: HTMLInputElement }} */ { target }) => player.setLooping(target.checked);
  return html`<label class="inline">
    <input type="checkbox" checked=${player.looping} onChange=${change} /> Loop
  </label>`;
}

export function Volume() {
  const [value, setValue] = useState(loudness());
  const change = (/** @type {{ target: HTMLInputElement }} */ { target }) => {
    setValue(Number(target.value));
    setLoudness(Number(target.value));
  };
  return html`<label class="inline">
    Volume <input type="range" min="0" max="1" step="0.01" value=${value} onInput=${change} />
  </label>`;
}

/**
 * Play the latest clips in sequence, over and over, or save them as one file.
 * @param {{ predictions: Prediction[] }} props newest first
 */
export function Recent({ predictions }) {
  const [sequence, setSequence] = useState(/** @type {Sequence | null} */ (null));
  const [title, setTitle] = useState("");
  useEffect(() => () => sequence?.stop(), [sequence]);
  const clips = predictions
    .filter(({ output }) => isClip(output))
    .slice(0, SEQUENCE_LENGTH)
    .toReversed();
  if (clips.length < 2) return null;
  const start = async () => {
    audio();
    const titled = await Promise.all(
      clips.map(async (clip) => ({ buffer: await load(clipOf(clip).audio), title: titleOf(clip.input) })),
    );
    let count = 0;
    const started = new Sequence({
      next: () => titled[count++ % titled.length] ?? null,
      onHeard: (clip) => setTitle(clip.title),
      onStop: () => setSequence(null),
    });
    started.start();
    setSequence(started);
  };
  const exportAll = async () => {
    const { saveJoined } = await import("../../wav.js");
    saveJoined(await loadAll(clips), "joined.wav");
  };
  const toggle = sequence ? () => sequence.stop() : start;
  return html`<div class="controls recent">
    <button type="button" aria-pressed=${sequence ? "true" : "false"} onClick=${toggle}>
      ${sequence ? "Stop" : `Play last ${clips.length} in sequence`}
    </button>
    <button type="button" onClick=${exportAll}>Export joined WAV</button>
    ${sequence && html`<span class="about" aria-live="polite"><bdi>${title}</bdi></span>`}
  </div>`;
}

// A walk's sound, its spectrogram that scrolls with it, and its prompts as a strip to seek in.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact-3.1.1.js";
import { messageOf } from "../../api.js";
import { animate } from "../../drawing.js";
import { fileName } from "../../view.js";
/** @import { OutputProps } from "../../types.js" */

/** @typedef {{ audio: string, spectrogram: string, timeline: string }} WalkOutput the URLs of its files */
/** @typedef {{ bar: number, start_s: number, prompt: string, following_prompt: string, share: number }} Bar */
/** @typedef {{ text: string, bar: number, start_s: number, until_s: number }} Part bars with the same prompt */

const PX_PER_S = 80;
const MAX_PX = 16_384; // the picture's own limit
const NUMBERED = 4; // each so many bars have their number

/** @type {(output: unknown) => boolean} */
export const isWalk = (output) =>
  typeof output === "object" && output !== null && "audio" in output && "timeline" in output;

/** @type {(bars: Bar[], duration_s: number) => Part[]} */
function partsOf(bars, duration_s) {
  const firsts = bars.filter(({ prompt }, index) => prompt !== bars[index - 1]?.prompt);
  return firsts.map(({ prompt, bar, start_s }, index) => {
    return { text: prompt, bar, start_s, until_s: firsts[index + 1]?.start_s ?? duration_s };
  });
}

/**
 * Load the bars of a walk.
 * @param {string} url
 */
function useTimeline(url) {
  const [bars, setBars] = useState(/** @type {Bar[]} */ ([]));
  const [error, setError] = useState("");
  useEffect(() => {
    fetch(url)
      .then((answer) => answer.json())
      .then(
        (timeline) => setBars(timeline.bars),
        (problem) => setError(messageOf(problem)),
      );
  }, [url]);
  return { bars, error };
}

/** @param {OutputProps} props */
export function Walk({ prediction, fresh }) {
  const { audio, spectrogram, timeline } = /** @type {WalkOutput} */ (prediction.output);
  const { bars, error } = useTimeline(timeline);
  const sound = useRef(/** @type {HTMLAudioElement | null} */ (null));
  const [playing, setPlaying] = useState(false);
  const [duration_s, setDuration] = useState(0);
  const [at, setAt] = useState(0); // the index of the bar that is heard
  const tape = useRef(/** @type {HTMLElement | null} */ (null));
  const px_per_s = Math.min(PX_PER_S, MAX_PX / (duration_s || 1));
  const look = () => {
    const place_s = sound.current?.currentTime ?? 0;
    if (tape.current) tape.current.scrollLeft = place_s * px_per_s;
    setAt(
      Math.max(
        0,
        bars.findLastIndex(({ start_s }) => start_s <= place_s + 0.001),
      ),
    );
  };
  useEffect(() => (playing ? animate(look) : look()), [playing, bars, px_per_s]);
  useEffect(() => void (fresh && sound.current?.play().catch(() => {})), []); // browsers may forbid it
  /** @param {number} place_s */
  const seek = (place_s) => {
    if (!sound.current) return;
    sound.current.currentTime = Math.min(Math.max(place_s, 0), duration_s);
    look();
  };
  /** @param {PointerEvent & { currentTarget: HTMLElement }} event */
  const pick = ({ clientX, currentTarget }) => {
    const { left, width } = currentTarget.getBoundingClientRect();
    seek((currentTarget.scrollLeft + clientX - left - width / 2) / px_per_s);
  };
  const saved = (/** @type {string} */ suffix) => fileName(bars[0]?.prompt ?? "walk", prediction.id, suffix);
  const suffix = audio.split("?")[0]?.split(".").at(-1) ?? "wav";
  return html`<section class="walk" aria-label="Music">
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <div class="tape" ref=${tape} onPointerDown=${pick} aria-hidden="true">
      <${Picture} url=${spectrogram} width_px=${duration_s * px_per_s} bars=${bars} px_per_s=${px_per_s} />
    </div>
    <${Caption} bar=${bars[at]} />
    <${Parts} parts=${partsOf(bars, duration_s)} bar=${bars[at]?.bar ?? 0} onPick=${seek} />
    <audio
      ref=${sound}
      src=${audio}
      controls
      loop=${prediction.input["loop"] === true}
      preload="auto"
      onPlay=${() => setPlaying(true)}
      onPause=${() => setPlaying(false)}
      onSeeked=${look}
      onLoadedMetadata=${() => setDuration(sound.current?.duration ?? 0)}
    ></audio>
    <div class="controls" role="group" aria-label="Download">
      <span class="about" aria-hidden="true">Download</span>
      <a href=${audio} download=${saved(suffix)}>${suffix.toUpperCase()}</a>
      <a href=${spectrogram} download=${saved("png")}>PNG</a>
      <a href=${timeline} download=${saved("json")}>Timeline</a>
    </div>
  </section>`;
}

/** @param {{ url: string, width_px: number, bars: Bar[], px_per_s: number }} props */
function Picture({ url, width_px, bars, px_per_s }) {
  // The page's policy forbids style attributes. A property that a script sets isn't one.
  /** @type {(name: string, px: number) => (element: HTMLElement | null) => void} */
  const sized = (name, px) => (element) => element?.style.setProperty(name, `${px}px`);
  return html`<div class="picture" ref=${sized("width", width_px)}>
    <img class="coloured" src=${url} alt="" draggable="false" />
    ${bars
      .filter(({ bar }) => bar % NUMBERED === 0)
      .map(({ bar, start_s }) => html`<span key=${bar} ref=${sized("left", start_s * px_per_s)}>${bar}</span>`)}
  </div>`;
}

/** @param {{ bar: Bar | undefined }} props */
function Caption({ bar }) {
  if (!bar) return null;
  const { prompt, following_prompt, share } = bar;
  const percent = Math.round(100 * share);
  const blended = percent > 0 && prompt !== following_prompt;
  return html`<p class="about">
    <strong>Bar ${bar.bar}</strong> <bdi>${prompt}</bdi>
    ${blended && html` → <bdi>${following_prompt}</bdi> ${percent} %`}
  </p>`;
}

/** @param {{ parts: Part[], bar: number, onPick: (place_s: number) => void }} props */
function Parts({ parts, bar, onPick }) {
  const current = parts.findLast((part) => part.bar <= bar);
  /** @type {(share: number) => (element: HTMLElement | null) => void} */
  const sized = (share) => (element) => element?.style.setProperty("flex-grow", `${share}`);
  return html`<ol class="strip" aria-label="Prompts by bar">
    ${parts.map(
      (part) =>
        html`<li key=${part.bar} class=${part === current ? "now" : ""} ref=${sized(part.until_s - part.start_s)}>
          <button type="button" title=${part.text} onClick=${() => onPick(part.start_s)}>
            <span class="about">${part.bar}</span> <bdi>${part.text}</bdi>
          </button>
        </li>`,
    )}
  </ol>`;
}

// Motion as curves over the frames, and prompts as a strip on the same time line. The values come from the model's own
// parser, through its preview server.
import { html, useRef, useState } from "../../vendor/htm-preact-3.1.1.js";
import { Waveform } from "./music.js";
/** @import { Preview } from "../../types.js" */
/** @import { Music } from "./music.js" */

/** @typedef {{ frame: number, text: string }} PromptAt a prompt and its first frame */
/**
 * @typedef {object} Shown
 * @property {number} frames
 * @property {Record<string, number[]>} curves
 * @property {PromptAt[]} prompts
 * @property {Music} [music]
 * @typedef {Preview & Shown} Motion
 */

const WIDTH = 400; // of the drawing, in units of its own
const HEIGHT = 56;
const MARGIN = 4;

/** @type {(value: number) => string} */
const rounded = (value) => Number(value.toPrecision(4)).toString();

/**
 * Draw an input's curve or prompts below its field. While the text has an error, the last curve stays, dimmed.
 * @param {{ name: string, preview: Preview, text: string }} props
 */
export function Hint({ name, preview, text }) {
  const { curves, prompts, frames, music } = /** @type {Motion} */ (preview);
  if (name === "audio") return music && html`<${Waveform} music=${music} frames=${frames} />`;
  const last = useRef(/** @type {number[] | undefined} */ (undefined));
  const values = curves[name];
  if (values) last.current = values;
  if (last.current) {
    const late = values && lateKeyframe(text, frames);
    return html`<${Curve} name=${name} values=${last.current} old=${!values} bars=${music?.bars} />
      ${late !== undefined && html`<p class="error">Frame ${late} is beyond the last frame, ${frames - 1}.</p>`}`;
  }
  if (prompts.length && name === "animation_prompts") return html`<${Strip} prompts=${prompts} frames=${frames} />`;
  return null;
}

/** @type {(text: string, frames: number) => number | undefined} */
const lateKeyframe = (text, frames) =>
  [...text.matchAll(/(\d+)\s*:/g)].map(([, frame]) => Number(frame)).find((frame) => frame >= frames);

/**
 * Return the path of a curve through the middle of each frame's value.
 * @type {(values: number[], low: number, high: number, x: (frame: number) => number) => string}
 */
function pathOf(values, low, high, x) {
  /** @param {number} value */
  const y = (value) =>
    high === low ? HEIGHT / 2 : HEIGHT - MARGIN - ((value - low) / (high - low)) * (HEIGHT - 2 * MARGIN);
  const points = values.map((value, frame) => `${x(frame).toFixed(1)} ${y(value).toFixed(1)}`);
  return `M${points.join("L")}`;
}

/**
 * Draw an input's values over the frames.
 * @param {object} props
 * @param {string} props.name
 * @param {number[]} props.values
 * @param {boolean} [props.old] whether they are of an earlier text
 * @param {number[]} [props.bars] the frames at which a bar of the music begins
 * @param {number} [props.at] the frame to mark
 * @param {(frame: number) => void} [props.onPick] called with a frame that is clicked
 */
export function Curve({ name, values, old = false, bars = [], at: marked, onPick }) {
  const [pointed, setPointed] = useState(/** @type {number | null} */ (null));
  const low = Math.min(...values);
  const high = Math.max(...values);
  const last = values.length - 1;
  /** @param {number} frame */
  const x = (frame) => (last ? (frame / last) * WIDTH : 0);
  /** @param {PointerEvent & { currentTarget: Element }} event */
  const frameUnder = ({ currentTarget, clientX }) => {
    const { left, width } = currentTarget.getBoundingClientRect();
    return Math.min(Math.max(Math.round(((clientX - left) / width) * last), 0), last);
  };
  const at = pointed ?? marked;
  const value = at === undefined ? undefined : values[at];
  const frames = low === high ? "in every frame" : `to ${rounded(high)} over ${values.length} frames`;
  const text = value === undefined ? `${rounded(low)} ${frames}` : `frame ${at}: ${rounded(value)}`;
  /** @type {(frame: number, kind?: string) => unknown} */
  const line = (frame, kind = "") =>
    html`<line class=${kind} x1=${x(frame)} x2=${x(frame)} y1="0" y2=${HEIGHT} vector-effect="non-scaling-stroke" />`;
  return html`<div class=${`curve ${old ? "old" : ""}`}>
    <svg
      viewBox=${`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label=${`${name}: ${rounded(low)} to ${rounded(high)}`}
      onPointerMove=${(/** @type {any} */ event) => setPointed(frameUnder(event))}
      onPointerLeave=${() => setPointed(null)}
      onClick=${(/** @type {any} */ event) => onPick?.(frameUnder(event))}
    >
      ${bars.map((frame) => line(frame, "beat"))}
      <path d=${pathOf(values, low, high, x)} vector-effect="non-scaling-stroke" />
      ${value !== undefined && line(at ?? 0)}
    </svg>
    <span class="about">${onPick ? `${name}, ` : ""}${text}</span>
  </div>`;
}

/**
 * Draw which prompt each frame has.
 * @param {object} props
 * @param {PromptAt[]} props.prompts
 * @param {number} props.frames
 * @param {number} [props.at] the frame whose prompt stands out
 * @param {(frame: number) => void} [props.onPick] called with a prompt's first frame
 */
export function Strip({ prompts, frames, at = -1, onPick }) {
  const parts = prompts.map(({ frame, text }, index) => {
    const from = index ? frame : 0; // the first prompt also holds before its keyframe
    const to = prompts[index + 1]?.frame ?? frames;
    return { text, from, share: Math.max(to - from, 0), isCurrent: at >= from && at < to };
  });
  /** @type {(share: number) => (element: HTMLElement | null) => void} */
  const sized = (share) => (element) => element?.style.setProperty("flex-grow", `${share}`);
  /** @type {(from: number, text: string) => unknown} */
  const label = (from, text) => html`<span class="about">${from}</span> <bdi>${text}</bdi>`;
  return html`<ol class="strip" aria-label="Prompts by frame">
    ${parts.map(
      ({ text, from, share, isCurrent }, index) =>
        html`<li key=${index} class=${isCurrent ? "now" : ""} ref=${sized(share)} title=${text}>
          ${
            onPick
              ? html`<button type="button" onClick=${() => onPick(from)}>${label(from, text)}</button>`
              : html`<span class="part">${label(from, text)}</span>`
          }
        </li>`,
    )}
  </ol>`;
}

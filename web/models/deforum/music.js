// The music of a film: its waveform, its beats and its bars on the frames' time line.
import { html } from "../../vendor/htm-preact-3.1.1.js";

/**
 * @typedef {object} Music
 * @property {number} bpm 0 if there is no beat
 * @property {number[]} beats the frames that show a beat
 * @property {number[]} bars those that show the first beat of a bar
 * @property {number[]} peaks of the waveform, equally many for each frame
 * @property {string[]} notes on how the beat was found
 */

const WIDTH = 400; // of the drawing, in units of its own
const HEIGHT = 56;

/**
 * @param {object} props
 * @param {Music} props.music
 * @param {number} props.frames
 * @param {number} [props.at] the frame to mark
 * @param {(frame: number) => void} [props.onPick] called with a frame that is clicked
 */
export function Waveform({ music: { bpm, beats, bars, peaks, notes }, frames, at, onPick }) {
  if (!beats.length && !peaks.some((peak) => peak > 0)) return null;
  const last = Math.max(frames - 1, 1);
  const points = peaks.map((peak, place) => [(place / Math.max(peaks.length - 1, 1)) * WIDTH, (peak * HEIGHT) / 2]);
  /** @param {number} side */
  const edge = (side) => points.map(([x = 0, y = 0]) => `${x.toFixed(1)} ${(HEIGHT / 2 + side * y).toFixed(1)}`);
  const outline = `M${edge(-1).join("L")}L${edge(1).reverse().join("L")}Z`;
  const tempo = bpm ? `${bpm.toFixed(2)} beats per minute` : "no beat";
  /** @type {(frame: number, kind: string) => unknown} */
  const line = (frame, kind) => {
    const x = (frame / last) * WIDTH;
    const ends = { x1: x, x2: x, y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke" };
    return html`<line key=${kind + frame} class=${kind} ...${ends} />`;
  };
  /** @param {PointerEvent & { currentTarget: Element }} event */
  const pick = ({ currentTarget, clientX }) => {
    const { left, width } = currentTarget.getBoundingClientRect();
    onPick?.(Math.min(Math.max(Math.round(((clientX - left) / width) * last), 0), last));
  };
  return html`<div class="curve waveform">
    <svg
      viewBox=${`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label=${`Waveform, ${tempo}`}
      onClick=${pick}
    >
      ${beats.map((frame) => line(frame, bars.includes(frame) ? "bar" : "beat"))}
      <path d=${outline} />
      ${at !== undefined && line(at, "playhead")}
    </svg>
    <span class="about">${[tempo, ...notes].join(". ")}</span>
  </div>`;
}

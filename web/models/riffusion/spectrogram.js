// A spectrogram image with its axes and a playhead.
import { html, useEffect, useRef } from "../../vendor/htm-preact-3.1.1.js";
import { animate } from "../../drawing.js";
/** @import { Player } from "./sound.js" */

// The image has 512 rows, from 0 to 10 kHz on the HTK mel scale, mel = 2595 log10(1 + f / 700), the highest on top.
const MAX_HZ = 10_000;
const TICKS_HZ = [100, 250, 500, 1000, 2000, 4000, 8000];
const toMel = (/** @type {number} */ hz) => 2595 * Math.log10(1 + hz / 700);
const STEP_S = 0.25; // of an arrow key

// The page's policy forbids style attributes. A property that a script sets isn't one.
/** @type {(side: "bottom" | "left", share: number) => (element: HTMLElement | null) => void} */
const placed = (side, share) => (element) => element?.style.setProperty(side, `${share * 100}%`);

/**
 * Move the playhead while the player plays, and say where it is: once a second, and when it is moved or stopped.
 * @param {Player} player
 * @param {number} duration_s
 */
function usePlayhead(player, duration_s) {
  const frame = useRef(/** @type {HTMLElement | null} */ (null));
  const head = useRef(/** @type {HTMLElement | null} */ (null));
  const move = () => {
    const share = duration_s ? player.place_s / duration_s : 0;
    head.current?.style.setProperty("transform", `translateX(${share * 100}%)`);
  };
  const tell = () => {
    const place = player.place_s.toFixed(1);
    frame.current?.setAttribute("aria-valuenow", place);
    frame.current?.setAttribute("aria-valuetext", `${place} of ${duration_s.toFixed(1)} seconds`);
  };
  useEffect(() => {
    move();
    tell();
  }); // after each change of the player
  useEffect(() => {
    if (!player.playing) return undefined;
    const timer = setInterval(tell, 1000);
    const stop = animate(move);
    return () => {
      clearInterval(timer);
      stop();
    };
  }, [player, player.playing, duration_s]);
  return { frame, head };
}

/**
 * Draw a clip's spectrogram. A click or the arrow keys seek in the player.
 * @param {{ url: string, player: Player, duration_s: number, label: string }} props
 */
export function Spectrogram({ url, player, duration_s, label }) {
  const { frame, head } = usePlayhead(player, duration_s);
  /** @param {PointerEvent & { currentTarget: HTMLElement }} event */
  const seek = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    player.seek(((event.clientX - box.left) / box.width) * duration_s);
  };
  /** @param {KeyboardEvent} event */
  const press = (event) => {
    const by_s = { ArrowLeft: -STEP_S, ArrowRight: STEP_S, Home: -Infinity, End: Infinity }[event.key];
    if (by_s === undefined) return;
    event.preventDefault();
    player.seek(player.place_s + by_s);
  };
  return html`<figure class="spectrogram">
    <div class="axis frequencies" aria-hidden="true">
      ${TICKS_HZ.map(
        (hz) =>
          html`<span key=${hz} ref=${placed("bottom", toMel(hz) / toMel(MAX_HZ))}>
            ${hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`}
          </span>`,
      )}
    </div>
    <div
      class="frame"
      ref=${frame}
      role="slider"
      tabindex="0"
      aria-label=${`Position in ${label}`}
      aria-valuemin="0"
      aria-valuemax=${duration_s.toFixed(1)}
      aria-valuenow="0"
      onPointerDown=${seek}
      onKeyDown=${press}
    >
      <img class="coloured" src=${url} alt=${`Spectrogram of ${label}`} draggable="false" />
      <div class="playhead" ref=${head}></div>
    </div>
    <div class="axis times" aria-hidden="true">
      ${Array.from(
        { length: Math.floor(duration_s) + 1 },
        (_, second) => html`<span key=${second} ref=${placed("left", second / (duration_s || 1))}>${second} s</span>`,
      )}
    </div>
  </figure>`;
}

// A spectrogram image with its axes and a playhead.
import { html, useEffect, useRef } from "../../vendor/htm-preact-3.1.1.js";
/** @import { Player } from "./sound.js" */

// The image has 512 rows, from 0 to 10 kHz on the HTK mel scale, mel = 2595 log10(1 + f / 700), the highest on top.
const MAX_HZ = 10_000;
const TICKS_HZ = [100, 250, 500, 1000, 2000, 4000, 8000];
const toMel = (/** @type {number} */ hz) => 2595 * Math.log10(1 + hz / 700);
const STEP_S = 0.25; // of an arrow key
const CALM_MS = 500; // between two positions of what moves, for users who prefer reduced motion

// matplotlib's magma, which is perceptually uniform, at seven equal distances. In the image, silence is white.
const LOUDEST_FIRST = "fcfdbf feb078 f1605d b73779 721f81 2c115f 000004".split(" ");

/** Add the filter that gives spectrograms their colours, which riffusion.css applies. */
function addColours() {
  const table = (/** @type {number} */ at) => LOUDEST_FIRST.map((hex) => parseInt(hex.slice(at, at + 2), 16) / 255);
  const svg = document.createElement("div");
  svg.className = "hidden";
  svg.innerHTML = `<svg aria-hidden="true"><filter id="spectrogram-colours" color-interpolation-filters="sRGB">
    <feColorMatrix type="saturate" values="0" />
    <feComponentTransfer>
      <feFuncR type="table" tableValues="${table(0).join(" ")}" />
      <feFuncG type="table" tableValues="${table(2).join(" ")}" />
      <feFuncB type="table" tableValues="${table(4).join(" ")}" />
    </feComponentTransfer>
  </filter></svg>`;
  document.body.append(svg);
}
addColours();

// The page's policy forbids style attributes. A property that a script sets isn't one.
/** @type {(side: "bottom" | "left", share: number) => (element: HTMLElement | null) => void} */
const placed = (side, share) => (element) => element?.style.setProperty(side, `${share * 100}%`);

/**
 * Draw in each frame of the screen, or twice a second for users who prefer reduced motion. Returns what ends it.
 * @param {() => void} draw
 */
export function animate(draw) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const timer = calm ? setInterval(draw, CALM_MS) : undefined;
  /** @type {number} */
  let request;
  const next = () => {
    draw();
    if (!calm) request = requestAnimationFrame(next);
  };
  next();
  return () => {
    clearInterval(timer);
    cancelAnimationFrame(request);
  };
}

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
      <img src=${url} alt=${`Spectrogram of ${label}: time from left to right, frequency upwards`} draggable="false" />
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

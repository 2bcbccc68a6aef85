// A video, frame by frame, with each frame's prompt and motion.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact-3.1.1.js";
import { nameOf } from "../../api.js";
import { usePreview } from "../../view.js";
import { Curve, Strip } from "./motion.js";
/** @import { OutputProps } from "../../types.js" */
/** @import { Motion } from "./motion.js" */

const CURVES = ["zoom", "angle", "translation_x", "translation_y"];
const DEFAULT_FPS = 15;

/** @type {(output: unknown) => boolean} */
export const isFilm = (output) =>
  typeof output === "string" && (/\.(mp4|webm|mov)(\?|$)/.test(output) || output.startsWith("data:video/"));

/**
 * Follow which frame a video shows.
 * @param {number} fps
 */
function useFrames(fps) {
  const video = useRef(/** @type {HTMLVideoElement | null} */ (null));
  const [frame, setFrame] = useState(0);
  useEffect(() => {
    /** @type {number} */
    let request;
    const look = () => {
      if (video.current) setFrame(Math.floor(video.current.currentTime * fps + 0.01));
      request = requestAnimationFrame(look);
    };
    look();
    return () => cancelAnimationFrame(request);
  }, [fps]);
  /** @param {number} wanted */
  const show = (wanted) => {
    if (!video.current) return;
    video.current.pause();
    const last = Math.max(Math.round(video.current.duration * fps) - 1, 0);
    // To the middle of the frame: its start can be rounded to the frame before.
    video.current.currentTime = (Math.min(Math.max(wanted, 0), last) + 0.5) / fps;
  };
  return { video, frame, show };
}

/** @param {OutputProps} props */
export function Film({ prediction, model }) {
  const { input, output, id } = prediction;
  const { video, frame, show } = useFrames(Number(input["fps"] ?? DEFAULT_FPS));
  const [looping, setLooping] = useState(true);
  const [playing, setPlaying] = useState(false);
  const known = !prediction.data_removed && prediction.model === nameOf(model);
  const motion = /** @type {Motion | null} */ (usePreview(model, input, known));
  const toggle = () => (playing ? video.current?.pause() : void video.current?.play());
  /** @param {KeyboardEvent} event */
  const press = (event) => {
    const by = { ",": -1, ".": 1, ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    show(frame + by);
  };
  return html`<section class="film" aria-label="Video">
    <video
      ref=${video}
      src=${output}
      controls
      loop=${looping}
      playsinline
      preload="auto"
      tabindex="0"
      onKeyDown=${press}
      onPlay=${() => setPlaying(true)}
      onPause=${() => setPlaying(false)}
    ></video>
    <${Caption} frame=${frame} count=${Number(input["max_frames"] ?? 0)} prompts=${motion?.prompts ?? []} />
    <div class="controls">
      <button type="button" class="primary" onClick=${toggle}>${playing ? "Pause" : "Play"}</button>
      <button type="button" onClick=${() => show(frame - 1)}>Previous frame</button>
      <button type="button" onClick=${() => show(frame + 1)}>Next frame</button>
      <label class="inline">
        <input type="checkbox" checked=${looping} onChange=${() => setLooping(!looping)} /> Loop
      </label>
      <a href=${output} download=${`film-${id.slice(0, 8)}.mp4`}>MP4</a>
    </div>
    ${motion && html`<${TimeLine} motion=${motion} frame=${frame} onPick=${show} />`}
  </section>`;
}

/** @param {{ frame: number, count: number, prompts: Motion["prompts"] }} props */
function Caption({ frame, count, prompts }) {
  const prompt = prompts.findLast((one) => one.frame <= frame) ?? prompts[0];
  return html`<p class="about" aria-live="off">
    <strong>Frame ${frame}</strong>${count ? ` of ${count}` : ""}${prompt && html`: <q>${prompt.text}</q>`}
  </p>`;
}

/**
 * Show the prompts, and the curves of the inputs that change.
 * @param {{ motion: Motion, frame: number, onPick: (frame: number) => void }} props
 */
function TimeLine({ motion: { prompts, frames, curves }, frame, onPick }) {
  const changing = CURVES.filter((name) => curves[name]?.some((value) => value !== curves[name]?.[0]));
  return html`
    ${prompts.length > 0 && html`<${Strip} prompts=${prompts} frames=${frames} at=${frame} />`}
    ${changing.map(
      (name) => html`<${Curve} key=${name} name=${name} values=${curves[name]} at=${frame} onPick=${onPick} />`,
    )}
  `;
}

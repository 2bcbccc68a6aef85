// A video, frame by frame, with each frame's prompt and motion.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact-3.1.1.js";
import { nameOf } from "../../api.js";
import { fileName, usePreview } from "../../view.js";
import { Curve, Strip } from "./motion.js";
import { Waveform } from "./music.js";
/** @import { OutputProps } from "../../types.js" */
/** @import { Motion } from "./motion.js" */

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
  const [playing, setPlaying] = useState(false);
  const last = () => Math.max(Math.round((video.current?.duration || 0) * fps) - 1, 0);
  const look = () => video.current && setFrame(Math.min(Math.floor(video.current.currentTime * fps + 0.01), last()));
  useEffect(() => {
    if (!playing) return undefined;
    /** @type {number} */
    let request;
    const next = () => {
      look();
      request = requestAnimationFrame(next);
    };
    next();
    return () => cancelAnimationFrame(request);
  }, [playing, fps]);
  /** @param {number} wanted */
  const show = (wanted) => {
    if (!video.current) return;
    video.current.pause();
    video.current.loop = false; // else a browser goes on to the first frame when it is shown the last one
    // To the middle of the frame: its start can be rounded to the frame before.
    video.current.currentTime = (Math.min(Math.max(wanted, 0), last()) + 0.5) / fps;
    look();
  };
  const events = {
    onPlay: () => setPlaying(true),
    onPause: () => setPlaying(false),
    onSeeked: look,
    onLoadedMetadata: look,
  };
  return { video, frame, last: last(), playing, show, events };
}

/** @param {OutputProps} props */
export function Film({ prediction, model }) {
  const { input, output, id } = prediction;
  const { video, frame, last, playing, show, events } = useFrames(Number(input["fps"] ?? DEFAULT_FPS));
  const [looping, setLooping] = useState(true);
  const known = !prediction.data_removed && prediction.model === nameOf(model);
  const motion = /** @type {Motion | null} */ (usePreview(model, input, known).preview);
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
      loop=${looping && playing}
      playsinline
      preload="auto"
      tabindex="0"
      onKeyDown=${press}
      ...${events}
    ></video>
    <${Caption} frame=${frame} last=${last} prompts=${motion?.prompts ?? []} />
    <div class="controls actions">
      <div class="controls" role="group" aria-label="Playback">
        <button type="button" class="primary play" onClick=${toggle}>
          <span aria-hidden="true">${playing ? "❚❚" : "▶"}</span> ${playing ? "Pause" : "Play"}
        </button>
        <button type="button" onClick=${() => show(frame - 1)}>Previous frame</button>
        <button type="button" onClick=${() => show(frame + 1)}>Next frame</button>
        <label class="inline">
          <input type="checkbox" checked=${looping} onChange=${() => setLooping(!looping)} /> Loop
        </label>
      </div>
      <div class="controls" role="group" aria-label="Download">
        <span class="about" aria-hidden="true">Download</span>
        <a href=${output} download=${fileName(motion?.prompts[0]?.text ?? "film", id, "mp4")}>MP4</a>
      </div>
    </div>
    ${motion && html`<${TimeLine} motion=${motion} frame=${frame} onPick=${show} />`}
  </section>`;
}

/** @param {{ frame: number, last: number, prompts: Motion["prompts"] }} props */
function Caption({ frame, last, prompts }) {
  const prompt = prompts.findLast((one) => one.frame <= frame) ?? prompts[0];
  return html`<div class="about" aria-live="off">
    <strong>Frame ${frame}</strong>${last ? ` of 0 to ${last}` : ""}
    ${prompt && html`<q class="title">${prompt.text}</q>`}
  </div>`;
}

/**
 * Show the prompts, and the curves of the inputs that change.
 * @param {{ motion: Motion, frame: number, onPick: (frame: number) => void }} props
 */
function TimeLine({ motion: { prompts, frames, curves, music }, frame, onPick }) {
  const changing = Object.entries(curves).filter(([, values]) => values.some((value) => value !== values[0]));
  return html`
    ${music && html`<${Waveform} ...${{ music, frames, at: frame, onPick }} />`}
    ${prompts.length > 0 && html`<${Strip} prompts=${prompts} frames=${frames} at=${frame} onPick=${onPick} />`}
    ${changing.map(
      ([name, values]) => html`<${Curve} key=${name} ...${{ name, values, bars: music?.bars, at: frame, onPick }} />`,
    )}
  `;
}

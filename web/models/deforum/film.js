// deforum's result: a player that goes frame by frame and says which prompt a frame is of.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { Curve, Strip, usePreview } from "./motion.js";

export const isFilm = (output) => typeof output === "string" && (/\.(mp4|webm|mov)(\?|$)/.test(output) || output.startsWith("data:video/"));

const SHOWN = ["zoom", "angle", "translation_x", "translation_y"];

/** Show a video, and below it on one time line the prompts and the motion that it was made with, where they are known. */
export function Film({ prediction, model }) {
  const video = useRef();
  const [frame, setFrame] = useState(0);
  const [looping, setLooping] = useState(true);
  const [playing, setPlaying] = useState(false);
  const fps = Number(prediction.input.fps ?? 15);
  const preview = usePreview(model, prediction.input, !prediction.data_removed && prediction.model === `${model.owner}/${model.name}`);
  const prompts = preview?.prompts ?? [];
  const moving = SHOWN.filter((name) => preview?.curves[name]?.some((value) => value !== preview.curves[name][0]));
  const count = Number(prediction.input.max_frames ?? 0);
  useEffect(() => {
    const element = video.current;
    let request;
    const look = () => {
      setFrame(Math.floor(element.currentTime * fps + 0.01));
      request = requestAnimationFrame(look);
    };
    look();
    return () => cancelAnimationFrame(request);
  }, [fps, prediction.id]);
  // The middle of a frame: its beginning may be rounded to the frame before.
  const show = (wanted) => {
    video.current.pause();
    const last = Math.max(Math.round(video.current.duration * fps) - 1, 0);
    video.current.currentTime = (Math.min(Math.max(wanted, 0), last) + 0.5) / fps;
  };
  const keys = (event) => {
    const by = { ",": -1, ".": 1, ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    show(frame + by);
  };
  const prompt = prompts.filter((one) => one.frame <= frame).at(-1) ?? prompts[0];
  return html`<section class="film" aria-label="The video">
    <video ref=${video} src=${prediction.output} controls loop=${looping} playsinline preload="auto" tabindex="0" onKeyDown=${keys}
      onPlay=${() => setPlaying(true)} onPause=${() => setPlaying(false)}></video>
    <p class="about" aria-live="off"><strong>Frame ${frame}</strong>${count ? ` of ${count}` : ""}${prompt && html`: <q>${prompt.text}</q>`}</p>
    <div class="controls">
      <button type="button" class="primary" onClick=${() => (playing ? video.current.pause() : video.current.play())}>${playing ? "Pause" : "Play"}</button>
      <button type="button" onClick=${() => show(frame - 1)} aria-label="One frame back">◀ frame</button>
      <button type="button" onClick=${() => show(frame + 1)} aria-label="One frame on">frame ▶</button>
      <label class="inline"><input type="checkbox" checked=${looping} onChange=${(event) => setLooping(event.target.checked)} /> loop</label>
      <a href=${prediction.output} download=${`film-${prediction.id.slice(0, 8)}.mp4`}>MP4</a>
    </div>
    ${prompts.length > 0 && html`<${Strip} prompts=${prompts} frames=${preview.frames} at=${frame} />`}
    ${moving.map((name) => html`<${Curve} key=${name} name=${name} values=${preview.curves[name]} at=${frame} onPick=${show} />`)}
  </section>`;
}

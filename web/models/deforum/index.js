// deforum's views, also of its sibling that moves to a sound: the camera's motion as curves while one types, the sound
// with its beats, and the video frame by frame.
import { html } from "../../vendor/htm-preact-3.1.1.js";
import { Film, isFilm } from "./film.js";
import { Hint } from "./motion.js";
/** @import { OutputProps, View } from "../../types.js" */

const FRAMES = 100; // by default
const FIRST = /^\s*[\d.]+\s*b?\s*:\s*/; // the frame or beat of the first prompt
const NEXT = /\s*\|\s*[\d.]+\s*b?\s*:\s*/g; // a prompt after the first

/** @type {View} */
const view = {
  labels: {
    audio: "Sound",
    audio_start_s: "Start at second",
    bpm: "Beats per minute",
    timeline: "Timeline",
    animation_prompts: "Prompts",
    translation_x: "Move right",
    translation_y: "Move down",
    max_frames: "Frames",
    fps: "Frames per second",
  },
  help: {
    audio: "The film moves to it, and is as long unless you set its frames.",
    bpm: "Leave this blank to estimate the beat.",
    timeline: "The exact beats, as a file that came with the sound",
    animation_prompts: "FRAME: PROMPT, separated by |. A prompt holds until the next one.",
    angle: "Rotation per frame, in degrees counter-clockwise",
    zoom: "Zoom factor per frame; above 1 moves in",
    translation_x: "Shift per frame, in pixels to the right",
    translation_y: "Shift per frame, in pixels down",
    max_frames: "",
    fps: "",
    seed: "Leave this blank for a random seed.",
  },
  groups: [
    { title: "Sound", inputs: ["audio"] },
    { title: "Prompts", inputs: ["animation_prompts"] },
    { title: "Motion", inputs: ["zoom", "angle", "translation_x", "translation_y", "strength"], folded: "on phones" },
    { title: "Beat", inputs: ["timeline", "bpm", "audio_start_s"], folded: true },
    { title: "Video", inputs: ["max_frames", "fps", "width", "height", "cadence", "seed"], folded: true },
    { title: "Advanced", inputs: ["color_coherence", "sampler"], folded: true },
  ],
  examples: [
    { animation_prompts: "0: a forest | 8b: snowy mountains", zoom: "0: (1 + 0.06*beat)", bpm: 120, cadence: 3 },
    { animation_prompts: "0: a sunset over the sea | 50: snowy mountains", color_coherence: "None" },
    { animation_prompts: "0: a night sky with stars", zoom: "0: (1.02)", angle: "0: (0.5*sin(2*pi*t/50))" },
  ],
  Hint,
  summary: ({ animation_prompts }) => `${animation_prompts ?? ""}`.replace(FIRST, "").replace(NEXT, " → "),
  facts: ({ metrics, input }) => {
    const seed = metrics?.["seed"];
    const again = input["seed"] === seed ? {} : { label: "Use this seed", again: { seed } };
    return seed === undefined ? [] : [{ text: `Seed ${seed}`, ...again }];
  },
  progress: ({ max_frames, audio }, { done, total }) => {
    if (audio && max_frames === undefined) return `${Math.floor((done / total) * 100)} %`; // as long as the sound
    const frames = Number(max_frames ?? FRAMES);
    return `Frame ${Math.floor((done / total) * frames)} of ${frames}`;
  },
  shows: isFilm,
  Output: (/** @type {OutputProps} */ props) => html`<${Film} key=${props.prediction.id} ...${props} />`,
};
export default view;

// deforum's views: the camera's motion as curves while one types, and the video frame by frame.
import { html } from "../../vendor/htm-preact-3.1.1.js";
import { Film, isFilm } from "./film.js";
import { Hint } from "./motion.js";
/** @import { OutputProps, View } from "../../types.js" */

const FRAMES = 100; // by default
const NEXT = /\s*\|\s*\d+\s*:\s*/g; // a prompt after the first

/** @type {View} */
const view = {
  labels: {
    animation_prompts: "Prompts",
    translation_x: "Move right",
    translation_y: "Move down",
    max_frames: "Frames",
    fps: "Frames per second",
  },
  help: {
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
    { title: "Prompts", inputs: ["animation_prompts"] },
    { title: "Motion", inputs: ["zoom", "angle", "translation_x", "translation_y"], folded: "on phones" },
    { title: "Video", inputs: ["max_frames", "fps", "seed"], folded: true },
    { title: "Advanced", inputs: ["color_coherence", "sampler"], folded: true },
  ],
  examples: [
    { animation_prompts: "0: a sunset over the sea | 50: snowy mountains", color_coherence: "None" },
    { animation_prompts: "0: a night sky with stars", zoom: "0: (1.02)", angle: "0: (0.5*sin(2*pi*t/50))" },
  ],
  Hint,
  summary: ({ animation_prompts }) => `${animation_prompts ?? ""}`.replace(/^\s*\d+\s*:\s*/, "").replace(NEXT, " → "),
  facts: ({ metrics, input }) => {
    const seed = metrics?.["seed"];
    const again = input["seed"] === seed ? {} : { label: "Use this seed", again: { seed } };
    return seed === undefined ? [] : [{ text: `Seed ${seed}`, ...again }];
  },
  progress: ({ max_frames }, { done, total }) => {
    const frames = Number(max_frames ?? FRAMES);
    return `Frame ${Math.floor((done / total) * frames)} of ${frames}`;
  },
  shows: isFilm,
  Output: (/** @type {OutputProps} */ props) => html`<${Film} key=${props.prediction.id} ...${props} />`,
};
export default view;

// walk's views: its spectrogram scrolls with the sound, with bars and prompts.
import { html } from "../../vendor/htm-preact-3.1.1.js";
import { Walk, isWalk } from "./player.js";
/** @import { OutputProps, View } from "../../types.js" */

const NEXT = /\s*\|\s*\d+\s*:\s*/g; // a prompt after the first

/** @type {View} */
const view = {
  labels: {
    bars: "Length in bars",
    start_bar: "Start at bar",
    num_inference_steps: "Steps",
    denoising: "Strength",
    seed_image_id: "Seed image",
    seed_audio: "Seed sound",
    output_format: "File format",
  },
  help: {
    prompts: "BAR: PROMPT, separated by |. Between two of them the music blends. A prompt given twice holds.",
    bars: "A bar lasts 2.6 seconds.",
    seed: "Leave this blank for a random seed.",
    denoising: "How far the music may move away from the seed image",
    seed_image_id: "It gives the music its beat and its key.",
    seed_audio: "Two bars at 93.93 beats per minute that replace the seed image",
    loop: "Let the end lead into the beginning. This needs an even number of bars.",
    output_format: "",
  },
  groups: [
    { title: "Prompts", inputs: ["prompts", "bars", "loop"] },
    { title: "Seed", inputs: ["seed_image_id", "seed_audio", "seed", "seed_drift"], folded: true },
    {
      title: "Advanced",
      inputs: ["denoising", "guidance_scale", "negative_prompt", "num_inference_steps", "start_bar", "output_format"],
      folded: true,
    },
  ],
  examples: [
    { prompts: "0: church bells | 4: drums and bass", bars: 8 },
    { prompts: "0: marimba | 4: flute", bars: 8, seed_image_id: "marim", loop: true },
  ],
  summary: ({ prompts }) => `${prompts ?? ""}`.replace(/^\s*\d+\s*:\s*/, "").replace(NEXT, " → "),
  facts: ({ metrics, input, output }) => {
    const seed = metrics?.["seed"];
    const again = input["seed"] === seed ? {} : { label: "Use this seed", again: { seed } };
    const facts = seed === undefined ? [] : [{ text: `Seed ${seed}`, ...again }];
    if (!isWalk(output)) return facts;
    const { audio = "", timeline = "" } = /** @type {Record<string, string>} */ (output);
    const url = (/** @type {string} */ path) => new URL(path, location.href).href;
    const next = { audio: url(audio), timeline: url(timeline) };
    return [...facts, { text: "", label: "Make a video of this", next }];
  },
  shows: isWalk,
  Output: (/** @type {OutputProps} */ props) => html`<${Walk} key=${props.prediction.id} ...${props} />`,
  thumbnailClass: "coloured",
};
export default view;

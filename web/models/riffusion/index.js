// riffusion's views: a clip is heard in a loop, next to another one, or blended into the next without end.
import { Clip, Recent, isClip, titleOf } from "./clip.js";
import { SeedImages } from "./seeds.js";
import { audio } from "./sound.js";
/** @import { View } from "../../types.js" */

/** @type {View} */
const view = {
  labels: {
    prompt_a: "Prompt",
    prompt_b: "Second prompt",
    alpha: "Blend",
    denoising: "Strength",
    num_inference_steps: "Steps",
    seed_image_id: "Seed image",
  },
  help: {
    prompt_a: "",
    prompt_b: "The clip is a blend of both prompts. Leave this blank for one prompt.",
    alpha: "0 is the first prompt alone, 1 the second alone.",
    denoising: "How far the clip may move away from the seed image",
    num_inference_steps: "More steps take longer and add detail.",
    seed_image_id: "It gives the clip its beat and its key.",
  },
  groups: [
    { title: "Prompt", inputs: ["prompt_a"] },
    { title: "Blend", inputs: ["prompt_b", "alpha"], folded: true },
    { title: "Seed image", inputs: ["seed_image_id"], folded: true },
    { title: "Advanced", inputs: ["denoising", "num_inference_steps"], folded: true },
  ],
  examples: [
    { prompt_a: "funky synth solo" },
    { prompt_a: "slow church bells", seed_image_id: "marim" },
    { prompt_a: "drums and bass", seed_image_id: "og_beat" },
    { prompt_a: "church bells", prompt_b: "drums and bass", alpha: 0.3 },
  ],
  controls: { seed_image_id: SeedImages },
  summary: titleOf,
  facts: ({ metrics }) => (metrics?.["seed"] === undefined ? [] : [{ text: `Seed ${metrics["seed"]}` }]),
  onRun: audio,
  shows: isClip,
  Output: Clip,
  thumbnailClass: "coloured",
  Recent,
  modes: [{ name: "Endless", load: async () => (await import("./endless.js")).Endless }],
};
export default view;

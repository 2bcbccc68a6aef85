// riffusion's views: a clip is heard in a loop, next to another one, or blended into the next without end.
import { html } from "../../vendor/htm-preact-3.1.1.js";
import { Clip, isClip, titleOf } from "./clip.js";
import { Endless } from "./endless.js";
import { SeedImages } from "./seeds.js";
import { audio } from "./sound.js";
/** @import { View } from "../../types.js" */

/** @type {View} */
const view = {
  controls: { seed_image_id: SeedImages },
  summary: titleOf,
  onRun: audio,
  shows: isClip,
  Output: Clip,
  Thumbnail: ({ output }) =>
    html`<img class="thumbnail spectrogram" src=${output.spectrogram} alt="" loading="lazy" width="160" height="90" />`,
  modes: [{ name: "Endless", Panel: Endless }],
};
export default view;

// deforum's views: the camera's motion as curves while one types, and the video frame by frame.
import { html } from "../../vendor/htm-preact-3.1.1.js";
import { Film, isFilm } from "./film.js";
import { Hint } from "./motion.js";
/** @import { OutputProps, View } from "../../types.js" */

/** @type {View} */
const view = {
  help: {
    angle: "Rotation per frame, in degrees counter-clockwise",
    zoom: "Zoom factor per frame; above 1 moves in",
    translation_x: "Shift per frame, in pixels to the right",
    translation_y: "Shift per frame, in pixels down",
  },
  Hint,
  summary: ({ animation_prompts }) => `${animation_prompts ?? ""}`,
  shows: isFilm,
  Output: (/** @type {OutputProps} */ props) => html`<${Film} key=${props.prediction.id} ...${props} />`,
};
export default view;

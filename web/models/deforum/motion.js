// Motion as curves over the frames, and prompts as a strip on the same time line, while one types. The values come from
// the model's own parser by the preview route; where a version has none, the fields stay without curves.
import { html, useEffect, useState } from "./vendor/htm-preact-3.1.1.js";
import { ApiError, preview } from "./api.js";

const TYPING_MS = 250;
const without = new Set(); // models that have no preview, which the server said once
const WIDTH = 400;
const HEIGHT = 56;

/**
 * Ask for the preview of an input whenever it has changed: {frames, curves: {name: [value, ...]}, prompts: [{frame,
 * text}], errors: {name: sentence}}; null before the first answer and where there is none.
 */
export function usePreview(model, input, wanted) {
  const [shown, setShown] = useState(null);
  const key = JSON.stringify(input);
  useEffect(() => {
    const name = `${model.owner}/${model.name}`;
    if (!wanted || without.has(name)) return setShown(null);
    const stop = new AbortController();
    const timer = setTimeout(() => {
      preview(model, input, stop.signal).then(setShown, (error) => {
        if (error instanceof ApiError && error.status === 404) {
          without.add(name);
          setShown(null);
        }
      });
    }, TYPING_MS);
    return () => (clearTimeout(timer), stop.abort());
  }, [model, key, wanted]);
  return shown;
}

/** Draw one input's values over the frames; `at` marks a frame, and `onPick(frame)` is called with one that is clicked. */
export function Curve({ name, values, at: marked, onPick }) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const span = high - low || 1;
  const y = (value) => (high === low ? HEIGHT / 2 : HEIGHT - 4 - ((value - low) / span) * (HEIGHT - 8));
  const x = (index) => (values.length > 1 ? (index / (values.length - 1)) * WIDTH : 0);
  const path = values.map((value, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const [pointed, setPointed] = useState(null);
  const under = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const index = Math.round(((event.clientX - box.left) / box.width) * (values.length - 1));
    return Math.min(Math.max(index, 0), values.length - 1);
  };
  const at = pointed ?? (marked < values.length ? marked : null) ?? null;
  const told = at === null ? low === high ? `${rounded(low)} in every frame` : `${rounded(low)} to ${rounded(high)} over ${values.length} frames` : `frame ${at}: ${rounded(values[at])}`;
  return html`<div class="curve">
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label=${`${name}: ${rounded(low)} to ${rounded(high)}`} 
      onPointerMove=${(event) => setPointed(under(event))} onPointerLeave=${() => setPointed(null)} onClick=${(event) => onPick?.(under(event))}>
      <path d=${path} vector-effect="non-scaling-stroke" />
      ${at !== null && html`<line x1=${x(at)} x2=${x(at)} y1="0" y2=${HEIGHT} vector-effect="non-scaling-stroke" />`}
    </svg>
    <span class="about">${onPick ? `${name}, ` : ""}${told}</span>
  </div>`;
}

/** Draw which prompt holds when; the one of frame `at` stands out. */
export function Strip({ prompts, frames, at = -1 }) {
  const parts = prompts.map((prompt, index) => {
    const from = index ? prompt.frame : 0; // before its first keyframe a prompt holds too
    const to = prompts[index + 1]?.frame ?? frames;
    return { ...prompt, from, share: Math.max(to - from, 0), now: at >= from && at < to };
  });
  return html`<ol class="strip" aria-label="Prompts by frame">
    ${parts.map(
      (part, index) => html`<li key=${index} class=${part.now ? "now" : ""} ref=${(element) => element && (element.style.flexGrow = part.share)} title=${part.text}>
        <span class="about">${part.from}</span> ${part.text}
      </li>`,
    )}
  </ol>`;
}

const rounded = (value) => Number(value.toPrecision(4)).toString();

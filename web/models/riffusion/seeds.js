// The seed images to choose from, each with its sound. script/seed-samples makes the files.
import { html, useState } from "../../vendor/htm-preact-3.1.1.js";
import { loudness } from "./sound.js";
/** @import { ControlProps } from "../../types.js" */

/** @type {Record<string, string>} */
const LABELS = { mask_graident_top_fifth_75: "mask gradient top fifth 75" }; // the API has it misspelled

/** @type {(seed: string, suffix: string) => string} */
const fileOf = (seed, suffix) => new URL(`seeds/${seed}.${suffix}`, import.meta.url).pathname;

/** @param {ControlProps} props */
export function SeedImages({ input, value, attributes: { id, name }, onChange }) {
  return html`<div class="seeds" role="radiogroup" aria-labelledby=${`${id}-label`} id=${id}>
    ${input.choices?.map(String).map(
      (seed) =>
        html`<${Seed}
          key=${seed}
          seed=${seed}
          name=${name}
          checked=${seed === value}
          onChoose=${() => onChange(seed)}
        />`,
    )}
  </div>`;
}

/** @param {{ seed: string, name: string, checked: boolean, onChoose: () => void }} props */
function Seed({ seed, name, checked, onChoose }) {
  const label = LABELS[seed] ?? seed.replaceAll("_", " ");
  return html`<div class="seed">
    <label>
      <input type="radio" name=${name} value=${seed} checked=${checked} onChange=${onChoose} />
      <img src=${fileOf(seed, "webp")} alt="" class="coloured" loading="lazy" />
      <span class="name">${label}</span>
    </label>
    <${Sample} url=${fileOf(seed, "mp3")} label=${label} />
  </div>`;
}

/** @type {HTMLAudioElement | null} */
let playing = null; // one sample at a time

/** @param {{ url: string, label: string }} props */
function Sample({ url, label }) {
  const [on, setOn] = useState(false);
  const toggle = () => {
    playing?.pause();
    if (on) return;
    playing = Object.assign(new Audio(url), { loop: true, volume: loudness(), onpause: () => setOn(false) });
    playing.play().then(
      () => setOn(true),
      () => setOn(false),
    );
  };
  return html`<button
    type="button"
    aria-pressed=${on ? "true" : "false"}
    aria-label=${`Listen to ${label}`}
    onClick=${toggle}
  >
    ${on ? "■" : "▶"}
  </button>`;
}

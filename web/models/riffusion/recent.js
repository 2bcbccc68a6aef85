// The latest clips of the history: played in sequence, over and over, or saved as one file.
import { html, useEffect, useState } from "../../vendor/htm-preact-3.1.1.js";
import { clipOf, isClip, loadAll, titleOf } from "./clip.js";
import { Sequence, audio, load } from "./sound.js";
/** @import { Prediction } from "../../types.js" */

const LENGTH = 8;

/** @param {{ predictions: Prediction[] }} props newest first */
export function Recent({ predictions }) {
  const [sequence, setSequence] = useState(/** @type {Sequence | null} */ (null));
  const [title, setTitle] = useState("");
  useEffect(() => () => sequence?.stop(), [sequence]);
  const clips = predictions
    .filter(({ output }) => isClip(output))
    .slice(0, LENGTH)
    .toReversed();
  if (clips.length < 2) return null;
  const start = async () => {
    audio();
    const titled = await Promise.all(
      clips.map(async (clip) => ({ buffer: await load(clipOf(clip).audio), title: titleOf(clip.input) })),
    );
    let count = 0;
    const started = new Sequence({
      next: () => titled[count++ % titled.length] ?? null,
      onHeard: (clip) => setTitle(clip.title),
      onStop: () => setSequence(null),
    });
    started.start();
    setSequence(started);
  };
  const exportAll = async () => {
    const { save, toWav } = await import("./wav.js");
    save(toWav(await loadAll(clips)), "joined.wav");
  };
  const toggle = sequence ? () => sequence.stop() : start;
  return html`<div class="controls recent">
    <button type="button" aria-pressed=${sequence ? "true" : "false"} onClick=${toggle}>
      ${sequence ? "Stop" : `Play last ${clips.length} in sequence`}
    </button>
    <button type="button" onClick=${exportAll}>Export joined WAV</button>
    ${sequence && html`<span class="about" aria-live="polite"><bdi>${title}</bdi></span>`}
  </div>`;
}

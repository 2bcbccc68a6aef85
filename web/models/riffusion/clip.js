// riffusion's result: the spectrogram to look at and to seek in, the sound, and a second clip to compare with.
import { html, useEffect, useMemo, useReducer, useState } from "./vendor/htm-preact-3.1.1.js";
import { Player, Sequence, audio, load, loudness, save, setLoudness, sounds, toWav } from "./sound.js";
import { Spectrogram } from "./spectrogram.js";

export const isClip = (output) => Boolean(output && typeof output === "object" && output.audio && output.spectrogram);

/** Say in a few words what a clip was made from. */
export function titleOf({ input }) {
  const a = input.prompt_a ?? "";
  return input.prompt_b ? `${a} → ${input.prompt_b} (${input.alpha ?? 0.5})` : a || "a clip";
}

const begun = new Set(); // the ids of what has played by itself: once is enough

/** Show a clip, and beside it the one that was kept to compare with. */
export function Clip({ prediction, kept, onKeep, recent, autoplay }) {
  const clips = useMemo(() => (kept && kept.id !== prediction.id ? [prediction, kept] : [prediction]), [prediction.id, kept?.id]);
  const player = useMemo(() => new Player(), []);
  const [, redraw] = useReducer((count) => count + 1, 0);
  const [error, setError] = useState("");
  useEffect(() => {
    player.onChange = redraw;
    return () => player.stop();
  }, []);
  useEffect(() => {
    let current = true;
    setError("");
    Promise.all(clips.map((clip) => load(clip.output.audio))).then(
      (buffers) => {
        if (!current) return;
        player.setBuffers(buffers);
        if (autoplay && !begun.has(prediction.id)) {
          begun.add(prediction.id);
          player.seek(0);
          if (!sounds()) player.play();
        }
      },
      (problem) => current && setError(problem.message),
    );
    return () => (current = false);
  }, [clips]);

  return html`<section class="clip" aria-label="The clip">
    <div class=${clips.length > 1 ? "pair" : ""}>
      ${clips.map(
        (clip, index) => html`<div key=${clip.id} class=${`take ${clips.length > 1 && index === player.heard ? "heard" : ""}`}>
          ${clips.length > 1 && html`<button type="button" aria-pressed=${index === player.heard ? "true" : "false"} onClick=${() => player.hear(index)}>${"AB"[index]} ${titleOf(clip)}</button>`}
          <${Spectrogram} url=${clip.output.spectrogram} player=${player} duration_s=${player.duration_s || 5.11} label=${titleOf(clip)} />
        </div>`,
      )}
    </div>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <div class="controls">
      <button type="button" class="primary" onClick=${() => (audio(), player.toggle())} disabled=${!player.duration_s}>${player.playing ? "Pause" : "Play"}</button>
      <label class="inline"><input type="checkbox" checked=${player.looping} onChange=${(event) => player.setLooping(event.target.checked)} /> loop</label>
      <${Volume} />
      <a href=${prediction.output.audio} download=${nameOf(prediction, "wav")}>WAV</a>
      <a href=${prediction.output.spectrogram} download=${nameOf(prediction, "png")}>PNG</a>
      ${kept?.id === prediction.id
        ? html`<span class="about">kept as B: make or open another</span>`
        : html`<button type="button" onClick=${() => onKeep(prediction)}>Keep to compare</button>`}
      ${clips.length > 1 && html`<button type="button" onClick=${() => onKeep(null)}>Close B</button>`}
      ${recent.length > 1 && html`<${Joined} recent=${recent} />`}
    </div>
  </section>`;
}

/** Play the last clips one after the other, round and round, and save them as one file. */
function Joined({ recent }) {
  const [sequence, setSequence] = useState(null);
  const [heard, setHeard] = useState("");
  useEffect(() => () => sequence?.stop(), [sequence]);
  const start = async () => {
    audio();
    const buffers = await Promise.all(recent.map((clip) => load(clip.output.audio)));
    let turn = 0;
    const next = () => {
      const index = turn++ % buffers.length;
      return { buffer: buffers[index], title: titleOf(recent[index]) };
    };
    const made = new Sequence(next, (clip) => setHeard(clip.title), () => setSequence(null));
    made.start();
    setSequence(made);
  };
  const join = async () => save(toWav(await Promise.all(recent.map((clip) => load(clip.output.audio)))), "joined.wav");
  return html`<span class="joined">
    <button type="button" aria-pressed=${sequence ? "true" : "false"} onClick=${sequence ? () => sequence.stop() : start}>${sequence ? "Stop" : `Play the last ${recent.length} as one`}</button>
    ${sequence && html`<span class="about" aria-live="polite">${heard}</span>`}
    <button type="button" onClick=${join}>Save as one WAV</button>
  </span>`;
}

export function Volume() {
  const [value, setValue] = useState(loudness());
  const change = (event) => {
    setValue(event.target.value);
    setLoudness(Number(event.target.value));
  };
  return html`<label class="inline">volume <input type="range" min="0" max="1" step="0.01" value=${value} onInput=${change} /></label>`;
}

const nameOf = ({ id }, suffix) => `clip-${id.slice(0, 8)}.${suffix}`;

// Sound by Web Audio: gapless, and timed to the sample.

const SAMPLE_RATE_HZ = 44100; // the clips' own: resampling would break the loop
const START_S = 0.02; // from placing sources to hearing them
const FADE_S = 0.005; // from a clip to another one
const BARS = 2; // of a clip
const MAX_LOADED = 24;

/** @type {{ context: AudioContext, volume: GainNode } | null} */
let output = null;

/** @type {typeof globalThis.playground} */
const exposed = (globalThis.playground = { context: null, volume: null, player: null, scheduled: [] });

/** Return the AudioContext. The first call must come from a click or a key: browsers let no page play before. */
export const audio = () => open().context;

function open() {
  if (!output) {
    const context = new AudioContext({ sampleRate: SAMPLE_RATE_HZ });
    const volume = new GainNode(context, { gain: loudness() });
    volume.connect(context.destination);
    output = { context, volume };
    Object.assign(exposed, output);
  }
  if (output.context.state === "suspended") void output.context.resume();
  return output;
}

/** Return the volume, from 0 to 1. */
export const loudness = () => Number(localStorage.getItem("volume") ?? 0.8);

/** @param {number} value from 0 to 1 */
export function setLoudness(value) {
  localStorage.setItem("volume", String(value));
  output?.volume.gain.setTargetAtTime(value, output.context.currentTime, 0.01);
}

/** @type {Map<string, Promise<AudioBuffer>>} */
const loaded = new Map(); // by URL, the oldest first

/** @param {string} url */
export function load(url) {
  const known = loaded.get(url);
  if (known) return known;
  const loading = fetchAndDecode(url);
  loaded.set(url, loading);
  loading.catch(() => loaded.delete(url));
  const [oldest] = loaded.keys();
  if (loaded.size > MAX_LOADED && oldest) loaded.delete(oldest);
  return loading;
}

/** @param {string} url */
async function fetchAndDecode(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`Can't load the clip: the server answered with status ${response.status}.`);
  return audio().decodeAudioData(await response.arrayBuffer());
}

/** @type {{ stop(): void } | null} */
let sounding = null; // one thing at a time: a player, or a sequence

/** Whether something plays. */
export const isSounding = () => Boolean(sounding);

/** @param {{ stop(): void }} next */
function takeOver(next) {
  if (sounding !== next) sounding?.stop();
  sounding = next;
}

/** @param {{ stop(): void }} stopped */
function release(stopped) {
  if (sounding === stopped) sounding = null;
}

/** @typedef {{ source: AudioBufferSourceNode, gain: GainNode }} Voice a clip that runs */

/**
 * A player of clips of the same length. All of them run, and one is heard, so that changing to another one keeps the
 * position.
 */
export class Player {
  buffers = /** @type {AudioBuffer[]} */ ([]);
  heard = 0; // the index of the clip that is heard
  looping = true;
  playing = false;
  onChange = () => {};
  #voices = /** @type {Voice[]} */ ([]);
  #leaving = /** @type {Voice[]} */ ([]); // of the clips before, until the next bar
  #offset_s = 0; // where it starts, or was stopped
  #startedAt_s = 0; // by the context's clock

  /**
   * Change to other clips: on the next bar, if it plays in a loop.
   * @param {AudioBuffer[]} buffers
   */
  setBuffers(buffers) {
    const change = () => {
      this.buffers = buffers;
      this.heard = Math.min(this.heard, Math.max(buffers.length - 1, 0));
    };
    if (!this.playing || !this.looping) return this.#whileStopped(change);
    const bar_s = this.duration_s / BARS;
    const soon_s = audio().currentTime + START_S;
    const passed_s = this.#offset_s + Math.max(soon_s - this.#startedAt_s, 0);
    const left_s = bar_s - (passed_s % bar_s);
    for (const { source, gain } of this.#voices) {
      gain.gain.setTargetAtTime(0, soon_s + left_s, FADE_S);
      source.stop(soon_s + left_s + 10 * FADE_S);
    }
    this.#leaving.push(...this.#voices);
    change();
    this.#voices = this.#start(soon_s + left_s, passed_s + left_s);
    return this.onChange();
  }

  get duration_s() {
    return this.buffers[0]?.duration ?? 0;
  }

  /** The position that is heard now. */
  get place_s() {
    if (!this.playing) return this.#offset_s;
    const position_s = this.#offset_s + Math.max(audio().currentTime - this.#startedAt_s, 0);
    return this.looping ? position_s % this.duration_s : Math.min(position_s, this.duration_s);
  }

  play() {
    if (this.playing || !this.buffers.length) return;
    takeOver(this);
    this.#startedAt_s = audio().currentTime + START_S;
    this.#voices = this.#start(this.#startedAt_s, this.#offset_s);
    this.playing = true;
    exposed.player = this;
    this.onChange();
  }

  /**
   * Let all clips run from a time on.
   * @type {(at_s: number, position_s: number) => Voice[]}
   */
  #start(at_s, position_s) {
    const { context, volume } = open();
    return this.buffers.map((buffer, index) => {
      const gain = new GainNode(context, { gain: index === this.heard ? 1 : 0 });
      const source = new AudioBufferSourceNode(context, { buffer, loop: this.looping });
      source.connect(gain).connect(volume);
      source.start(at_s, position_s % buffer.duration);
      if (index === 0) source.addEventListener("ended", () => this.#finish(source));
      return { source, gain };
    });
  }

  /**
   * Return to the start once a clip that doesn't loop has been played.
   * @param {AudioBufferSourceNode} ended
   */
  #finish(ended) {
    if (!this.playing || this.looping || ended !== this.#voices[0]?.source) return;
    release(this);
    this.playing = false;
    this.#offset_s = 0;
    this.onChange();
  }

  stop() {
    if (!this.playing) return;
    release(this);
    this.#offset_s = this.place_s;
    this.playing = false;
    for (const { source } of [...this.#voices, ...this.#leaving]) source.stop();
    this.#leaving = [];
    this.onChange();
  }

  toggle() {
    if (this.playing) this.stop();
    else this.play();
  }

  /** @param {number} position_s */
  seek(position_s) {
    this.#whileStopped(() => {
      this.#offset_s = Math.min(Math.max(position_s, 0), this.duration_s);
    });
  }

  /** @param {boolean} looping */
  setLooping(looping) {
    this.#whileStopped(() => {
      this.looping = looping;
    });
  }

  /**
   * Let another of the clips be heard.
   * @param {number} index
   */
  hear(index) {
    this.heard = index;
    for (const [which, { gain }] of this.#voices.entries()) {
      gain.gain.setTargetAtTime(which === index ? 1 : 0, audio().currentTime, 0.005);
    }
    this.onChange();
  }

  /** @param {() => void} change */
  #whileStopped(change) {
    const wasPlaying = this.playing;
    this.stop();
    change();
    if (wasPlaying) this.play();
    this.onChange();
  }
}

const AHEAD_S = 1.5; // from placing a clip to hearing it: a hidden page's timers fire once a second
const FILL_MS = 50;
const FIRST_S = 0.1;

/** @typedef {{ buffer: AudioBuffer, title: string, picture?: string, repeated?: boolean }} Titled */

/**
 * What a sequence calls.
 * @typedef {object} Score
 * @property {() => Titled | null} next takes the next clip. Without one, the last clip is repeated
 * @property {(clip: Titled, at_s: number) => void} [onPlaced] called ahead of time, with when it will be heard
 * @property {(clip: Titled) => void} onHeard
 * @property {() => void} onStop when it is stopped, also by another sound
 */

/** Plays clips one after the other without a gap. */
export class Sequence {
  #sources = /** @type {AudioBufferSourceNode[]} */ ([]);
  #running = false;
  #last = /** @type {Titled | null} */ (null);
  #until_s = 0; // the end of the last clip that is placed
  #timer = 0;

  /** @param {Score} score */
  constructor(score) {
    this.score = score;
  }

  start() {
    takeOver(this);
    this.#running = true;
    this.#until_s = audio().currentTime + FIRST_S;
    this.#timer = setInterval(() => this.#fill(), FILL_MS);
    this.#fill();
  }

  /** Place clips until enough are ahead. */
  #fill() {
    const { currentTime } = audio();
    while (this.#running && this.#until_s < currentTime + AHEAD_S) {
      const clip = this.score.next() ?? (this.#last && { ...this.#last, repeated: true });
      if (!clip) {
        this.#until_s = Math.max(this.#until_s, currentTime + FIRST_S);
        return;
      }
      this.#place(clip);
    }
  }

  /** @param {Titled} clip */
  #place(clip) {
    const { context, volume } = open();
    const at_s = Math.max(this.#until_s, context.currentTime); // a throttled timer can be late
    const source = new AudioBufferSourceNode(context, { buffer: clip.buffer });
    source.connect(volume);
    source.start(at_s);
    source.onended = () => void this.#sources.splice(this.#sources.indexOf(source), 1);
    this.#sources.push(source);
    this.#until_s = at_s + clip.buffer.duration;
    this.#last = clip;
    exposed.scheduled.push({ at_s, until_s: this.#until_s, repeated: Boolean(clip.repeated) });
    this.score.onPlaced?.(clip, at_s);
    setTimeout(() => this.#running && this.score.onHeard(clip), (at_s - context.currentTime) * 1000);
  }

  stop() {
    if (!this.#running) return;
    this.#running = false;
    release(this);
    clearInterval(this.#timer);
    for (const source of this.#sources) source.stop();
    this.score.onStop();
  }
}

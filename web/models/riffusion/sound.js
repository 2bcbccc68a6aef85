// Sound by Web Audio: gapless, and timed to the sample.

let context = null;
let volume = null;

// For tests, and for the curious in a browser's console: what sounds, and which clips were put end to end when.
const heard = (globalThis.playground = { context: null, player: null, scheduled: [] });

/** The one AudioContext; made at the first gesture, since browsers let no page play before. */
export function audio() {
  if (!context) {
    context = new AudioContext({ sampleRate: 44100 }); // the clips' own rate: resampled, a loop would no longer be whole
    volume = new GainNode(context, { gain: loudness() });
    volume.connect(context.destination);
    heard.context = context;
    heard.volume = volume;
  }
  if (context.state === "suspended") context.resume();
  return context;
}

export const loudness = () => Number(localStorage.getItem("volume") ?? 0.8);

export function setLoudness(value) {
  localStorage.setItem("volume", String(value));
  if (volume) volume.gain.setTargetAtTime(value, context.currentTime, 0.01);
}

const decoded = new Map(); // URL -> promise of its AudioBuffer; the last few

/** Fetch a clip and decode it. */
export function load(url) {
  if (!decoded.has(url)) {
    decoded.set(url, fetch(url).then((response) => {
      if (!response.ok) throw new Error(`The sound can't be fetched: the server answered ${response.status}.`);
      return response.arrayBuffer();
    }).then((bytes) => audio().decodeAudioData(bytes)));
    decoded.get(url).catch(() => decoded.delete(url));
    if (decoded.size > 24) decoded.delete(decoded.keys().next().value);
  }
  return decoded.get(url);
}

let sounding = null; // one thing at a time: a player, or a sequence

/** Tell whether something is heard now. */
export const sounds = () => Boolean(sounding);

function begin(one) {
  if (sounding && sounding !== one) sounding.stop();
  sounding = one;
}

function end(one) {
  if (sounding === one) sounding = null;
}

/**
 * Play clips of the same length at the same place: all of them run, one is heard. With a single clip it is a plain
 * player. Changing from one to the other keeps the place.
 */
export class Player {
  constructor() {
    this.buffers = [];
    this.heard = 0;
    this.looping = true;
    this.playing = false;
    this.offset_s = 0; // the place where it begins or was stopped
    this.onChange = () => {};
  }

  setBuffers(buffers) {
    const was = this.playing;
    this.stop();
    this.buffers = buffers;
    this.heard = Math.min(this.heard, Math.max(buffers.length - 1, 0));
    if (was && buffers.length) this.play();
    this.onChange();
  }

  get duration_s() {
    return this.buffers[0]?.duration ?? 0;
  }

  /** The place that is heard now, in seconds. */
  get place_s() {
    if (!this.playing) return this.offset_s;
    const passed = this.offset_s + Math.max(audio().currentTime - this.began_s, 0);
    return this.looping ? passed % this.duration_s : Math.min(passed, this.duration_s);
  }

  play() {
    if (this.playing || !this.buffers.length) return;
    begin(this);
    const at = audio().currentTime + 0.02;
    this.voices = this.buffers.map((buffer, index) => {
      const gain = new GainNode(context, { gain: index === this.heard ? 1 : 0 });
      const source = new AudioBufferSourceNode(context, { buffer, loop: this.looping });
      source.connect(gain).connect(volume);
      source.start(at, this.offset_s % buffer.duration);
      return { source, gain };
    });
    this.voices[0].source.onended = () => {
      if (this.playing && !this.looping) {
        end(this);
        this.playing = false;
        this.offset_s = 0;
        this.onChange();
      }
    };
    this.began_s = at;
    this.playing = true;
    heard.player = this;
    this.onChange();
  }

  stop() {
    if (!this.playing) return;
    end(this);
    this.offset_s = this.place_s;
    this.playing = false;
    for (const { source } of this.voices) source.stop();
    this.onChange();
  }

  toggle() {
    if (this.playing) this.stop();
    else this.play();
  }

  seek(place_s) {
    const was = this.playing;
    this.stop();
    this.offset_s = Math.min(Math.max(place_s, 0), this.duration_s);
    if (was) this.play();
    this.onChange();
  }

  setLooping(looping) {
    const place_s = this.place_s;
    const was = this.playing;
    this.stop();
    this.looping = looping;
    this.offset_s = place_s;
    if (was) this.play();
    this.onChange();
  }

  /** Hear another of the clips, from the same place on. */
  hear(index) {
    this.heard = index;
    this.voices?.forEach(({ gain }, which) => gain.gain.setTargetAtTime(which === index ? 1 : 0, audio().currentTime, 0.005));
    this.onChange();
  }
}

const AHEAD_S = 1.5; // that sources are placed before they are heard: timers of a hidden page come once a second

/**
 * Play clips one after the other without a gap. `next()` returns the clip that comes, {buffer, ...}, or null when there
 * is none yet; then the last one is heard once more. `onClip(clip, at_s)` tells what begins, and when; `onStop()` that
 * it was stopped, by itself or for something else.
 */
export class Sequence {
  constructor(next, onClip, onStop) {
    this.next = next;
    this.onClip = onClip;
    this.onStop = onStop;
    this.sources = [];
    this.running = false;
  }

  start() {
    begin(this);
    this.running = true;
    this.until_s = audio().currentTime + 0.1;
    this.last = null;
    this.timer = setInterval(() => this.fill(), 50);
    this.fill();
  }

  /** Queue what is heard next once the last clip nears its end. */
  fill() {
    while (this.running && this.until_s < audio().currentTime + AHEAD_S) {
      const coming = this.next();
      const clip = coming ?? (this.last && { ...this.last, repeated: true });
      if (!clip) {
        this.until_s = Math.max(this.until_s, audio().currentTime + 0.1);
        return;
      }
      const source = new AudioBufferSourceNode(context, { buffer: clip.buffer });
      source.connect(volume);
      const at_s = Math.max(this.until_s, audio().currentTime); // a throttled timer may come late
      source.start(at_s);
      source.onended = () => this.sources.splice(this.sources.indexOf(source), 1);
      this.sources.push(source);
      this.until_s = at_s + clip.buffer.duration;
      heard.scheduled.push({ at_s, until_s: this.until_s, repeated: Boolean(clip.repeated) });
      this.last = clip;
      this.onClip(clip, at_s);
    }
  }

  stop() {
    if (!this.running) return;
    this.running = false;
    end(this);
    clearInterval(this.timer);
    for (const source of this.sources) source.stop();
    this.onStop();
  }
}

/** Join clips to a 16-bit mono WAV file. */
export function toWav(buffers) {
  const rate_hz = buffers[0].sampleRate;
  const length = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * length));
  const text = (at, word) => [...word].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate_hz, true);
  view.setUint32(28, 2 * rate_hz, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * length, true);
  let at = 44;
  for (const buffer of buffers) {
    for (const sample of buffer.getChannelData(0)) {
      view.setInt16(at, Math.round(Math.max(-1, Math.min(1, sample)) * 32767), true);
      at += 2;
    }
  }
  return new Blob([view], { type: "audio/wav" });
}

/** Let the browser save a blob. */
export function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

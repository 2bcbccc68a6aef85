// WAV files.
import { save } from "./transfer.js";

const HEADER_BYTES = 44;

/**
 * Write samples as a mono WAV file of 16 bits.
 * @param {Float32Array[]} blocks of samples, which follow each other
 * @param {number} rate_hz
 */
export function toWav(blocks, rate_hz) {
  const length = blocks.reduce((sum, block) => sum + block.length, 0);
  const view = new DataView(new ArrayBuffer(HEADER_BYTES + 2 * length));
  writeHeader(view, length, rate_hz);
  let at = HEADER_BYTES;
  for (const block of blocks) {
    for (const sample of block) {
      view.setInt16(at, Math.round(Math.max(-1, Math.min(1, sample)) * 32767), true);
      at += 2;
    }
  }
  return new Blob([view], { type: "audio/wav" });
}

/**
 * Let the browser save clips, joined.
 * @param {AudioBuffer[]} buffers all have the first one's sample rate
 * @param {string} name
 */
export function saveJoined(buffers, name) {
  const blocks = buffers.map((buffer) => buffer.getChannelData(0));
  save(toWav(blocks, buffers[0]?.sampleRate ?? 44100), name);
}

/** @type {(view: DataView, length: number, rate_hz: number) => void} */
function writeHeader(view, length, rate_hz) {
  /** @type {(at: number, word: string) => void} */
  const text = (at, word) => [...word].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, HEADER_BYTES - 8 + 2 * length, true);
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
}

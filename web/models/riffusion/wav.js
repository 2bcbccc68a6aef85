// WAV files.

/**
 * Join clips to a mono WAV file of 16 bits.
 * @param {AudioBuffer[]} buffers at least one; all have its sample rate
 */
export function toWav(buffers) {
  const rate_hz = buffers[0]?.sampleRate ?? 44100;
  const length = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * length));
  writeHeader(view, length, rate_hz);
  let at = 44;
  for (const buffer of buffers) {
    for (const sample of buffer.getChannelData(0)) {
      view.setInt16(at, Math.round(Math.max(-1, Math.min(1, sample)) * 32767), true);
      at += 2;
    }
  }
  return new Blob([view], { type: "audio/wav" });
}

/** @type {(view: DataView, length: number, rate_hz: number) => void} */
function writeHeader(view, length, rate_hz) {
  /** @type {(at: number, word: string) => void} */
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
}

/**
 * Let the browser save a file.
 * @param {Blob} blob
 * @param {string} name
 */
export function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

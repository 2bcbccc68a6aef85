// What runs on the browser's audio thread while microphone.js records: it passes on the samples.

class Microphone extends AudioWorkletProcessor {
  /** @param {Float32Array[][]} inputs */
  process([channels]) {
    const samples = channels?.[0]; // none once the microphone is off
    if (samples) this.port.postMessage(samples);
    return true;
  }
}
registerProcessor("microphone", Microphone);

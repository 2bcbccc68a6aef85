// Recording from the microphone, as a WAV file: every model can read one, in contrast to what MediaRecorder writes.
import { toWav } from "./wav.js";

/** @type {MediaTrackConstraints} it may be music */
const UNCHANGED = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** @typedef {{ stop: () => void, toFile: () => File }} Recording */

/**
 * Start a recording. Raises a DOMException if the browser or the user forbids it.
 * @returns {Promise<Recording>}
 */
export async function record() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: UNCHANGED });
  const context = new AudioContext();
  await context.audioWorklet.addModule(new URL("microphone-worklet.js", import.meta.url));
  const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
  /** @type {Float32Array[]} */
  const blocks = [];
  node.port.onmessage = ({ data }) => void blocks.push(data);
  context.createMediaStreamSource(stream).connect(node);
  const stop = () => {
    stream.getTracks().forEach((track) => track.stop());
    if (context.state !== "closed") void context.close();
  };
  const toFile = () => new File([toWav(blocks, context.sampleRate)], "recording.wav", { type: "audio/wav" });
  return { stop, toFile };
}

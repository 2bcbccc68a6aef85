// Request a clip and wait for it: node clip.mjs URL PROMPT
import { writeFile } from "node:fs/promises";
import { setTimeout as pause } from "node:timers/promises";

const NAMES = { audio: "audio.wav", spectrogram: "spectrogram.png" };
const BUSY = 409;

async function predict(url, input) {
  for (;;) {
    const answer = await fetch(`${url}/predictions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ input }),
    });
    if (answer.ok) return answer.json();
    if (answer.status !== BUSY) throw new Error(`${answer.status}: ${await answer.text()}`);
    await pause(1000); // busy with another prediction
  }
}

const [url, prompt] = process.argv.slice(2);
const prediction = await predict(url, { prompt_a: prompt });
if (prediction.status !== "succeeded") throw new Error(`${prediction.status}: ${prediction.error}`);
for (const [name, dataUrl] of Object.entries(prediction.output)) {
  await writeFile(NAMES[name], Buffer.from(dataUrl.split(",")[1], "base64"));
  console.log(`Wrote ${NAMES[name]}`);
}

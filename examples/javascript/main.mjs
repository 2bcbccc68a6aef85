// Run a model with Replicate's JavaScript client and save its files: main.mjs [MODEL] [INPUT]
import { writeFile } from "node:fs/promises";
import Replicate from "replicate";

const [model = "riffusion/riffusion", input = '{"prompt_a": "church bells"}'] = process.argv.slice(2);
const gateway = process.env.REPLICATE_BASE_URL ?? "http://127.0.0.1:5000";
const replicate = new Replicate({ baseUrl: `${gateway}/v1` }); // the token comes from REPLICATE_API_TOKEN

const output = await replicate.run(model, { input: JSON.parse(input) }, (prediction) => {
  console.log(`Prediction ${prediction.id}: ${prediction.status}`);
});
await save("output", output);

// An output is a file, or a list or object of files.
async function save(name, part) {
  if (typeof part?.blob === "function") {
    const blob = await part.blob();
    const path = `${name}.${blob.type.split("/").at(-1).replace("x-wav", "wav")}`;
    await writeFile(path, Buffer.from(await blob.arrayBuffer()));
    console.log(`Wrote ${path}: ${blob.size} bytes`);
  } else if (part !== null && typeof part === "object") {
    for (const [key, value] of Object.entries(part)) {
      await save(Array.isArray(part) ? `${name}-${key}` : key, value);
    }
  }
}

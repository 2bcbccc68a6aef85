// Call replicate from npm: read {"do": NAME, ...arguments} from stdin, and print the result as JSON.
import { readFile } from "node:fs/promises";
import { json } from "node:stream/consumers";
import Replicate, { validateWebhook } from "replicate";

const client = new Replicate({ baseUrl: process.env.REPLICATE_BASE_URL });

// Replace each file in an output by its first bytes and its length.
async function plain(value) {
  if (Array.isArray(value)) return Promise.all(value.map(plain));
  if (value !== null && typeof value === "object") {
    if (typeof value.blob === "function") {
      const content = Buffer.from(await (await value.blob()).arrayBuffer());
      return { file: content.subarray(0, 16).toString("hex"), bytes: content.length, url: String(value).slice(0, 6) };
    }
    const parts = await Promise.all(Object.entries(value).map(async ([name, part]) => [name, await plain(part)]));
    return Object.fromEntries(parts);
  }
  return value;
}

const actions = {
  async run({ ref, ...options }) {
    const statuses = [];
    try {
      const output = await client.run(ref, options, (prediction) => statuses.push(prediction.status));
      return { output: await plain(output), statuses };
    } catch (error) {
      return error.response ? { refused: error.response.status, statuses } : { failed: error.message, statuses };
    }
  },

  // Read the deployments, and the lists that are empty.
  async browse({ owner, name }) {
    const deployment = await client.deployments.get(owner, name);
    const prediction = await client.deployments.predictions.create(owner, name, { input: {} });
    const [collections, hardware, trainings] = [client.collections, client.hardware, client.trainings];
    return {
      deployments: (await client.deployments.list()).results.map(({ owner, name }) => `${owner}/${name}`),
      release: deployment.current_release.version,
      deployment: prediction.deployment,
      empty: [(await collections.list()).results, await hardware.list(), (await trainings.list()).results],
    };
  },

  // Run with a Buffer, a Blob and a File, as the client's documentation shows.
  async runWithFiles({ ref, path, more = "images" }) {
    const buffer = await readFile(path);
    const others = [new Blob([buffer], { type: "image/png" }), new File([buffer], "c.png", { type: "image/png" })];
    return { output: await plain(await client.run(ref, { input: { image: buffer, [more]: others } })) };
  },

  async files({ path }) {
    const created = await client.files.create(await readFile(path), { a: 1 });
    const got = await client.files.get(created.id);
    const listed = (await client.files.list()).results.map(({ id }) => id);
    const deleted = await client.files.delete(created.id);
    const left = (await client.files.list()).results.length;
    return { file: [got.content_type, got.size, got.metadata], listed: listed.includes(created.id), deleted, left };
  },

  async paginate() {
    const pages = [];
    for await (const page of client.paginate(client.predictions.list)) pages.push(page.map(({ id }) => id));
    return pages;
  },

  async validate({ deliveries }) {
    const { key } = await client.webhooks.default.secret.get();
    const verdicts = deliveries.map(([headers, body]) => validateWebhook({ headers, body }, key));
    return Promise.all(verdicts);
  },

  async stream({ ref, inputs }) {
    const events = [];
    for await (const { event, data, id } of client.stream(ref, { input: inputs })) {
      events.push([event, await plain(data), Boolean(id)]);
    }
    return events;
  },

  // Fetch a file as the client does: without a token.
  async fetch({ url }) {
    const response = await fetch(url);
    return { status: response.status, bytes: (await response.arrayBuffer()).byteLength };
  },

  // Abort a run once it is processing; the client then cancels the prediction.
  async abort({ ref, inputs }) {
    const controller = new AbortController();
    const statuses = [];
    await client.run(ref, { input: inputs, wait: { mode: "poll", interval: 100 }, signal: controller.signal }, (prediction) => {
      statuses.push(prediction.status);
      if (prediction.status === "processing") controller.abort();
    });
    return statuses;
  },
};

const { do: name, ...rest } = await json(process.stdin);
console.log(JSON.stringify(await actions[name](rest)));

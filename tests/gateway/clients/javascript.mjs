// Call replicate from npm: read {"do": NAME, ...arguments} from stdin, and print the result as JSON.
import { json } from "node:stream/consumers";
import Replicate, { validateWebhook } from "replicate";

const client = new Replicate({ baseUrl: process.env.REPLICATE_BASE_URL });

// Replace each file in an output by its first bytes and its length.
async function plain(value) {
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

// The request as code to copy and run.
import { html, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { filesOf, nameOf } from "./api.js";
import { CopyButton, canCopy } from "./result.js";
/** @import { Model, Values, Version } from "./types.js" */

/**
 * Write a JSON value in Python.
 * @param {unknown} value
 * @returns {string}
 */
function toPython(value) {
  if (Array.isArray(value)) return `[${value.map(toPython).join(", ")}]`;
  if (value && typeof value === "object") {
    const items = Object.entries(value).map(([key, item]) => `${toPython(key)}: ${toPython(item)}`);
    return `{${items.join(", ")}}`;
  }
  const text = JSON.stringify(value);
  return { true: "True", false: "False", null: "None" }[text] ?? text;
}

/** @type {(text: string) => string} */
const quoteForShell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** @typedef {{ key: string, name: string }} OutputFile a property of the output, or "" for all of it; a file's name */

/**
 * List the files of a model's output by its schema. They are named as in an earlier output, with a suffix.
 * @param {Version} version
 * @param {unknown} output
 * @returns {OutputFile[]}
 */
function outputFiles(version, output) {
  const { Output } = version.openapi_schema.components.schemas;
  const properties = Object.entries(Output?.format === "uri" ? { "": Output } : (Output?.properties ?? {}));
  const known = new Map(filesOf(output).map(({ name, url }) => [name, url.split("?")[0]?.split("/").at(-1)]));
  return properties
    .filter(([, schema]) => schema.format === "uri")
    .map(([key]) => ({ key, name: known.get(key || "output") || key || "output" }));
}

/**
 * @param {Model} model
 * @param {Values} input
 * @param {OutputFile[]} files
 * @returns {Record<string, string>}
 */
function programs(model, input, files) {
  const base = location.origin;
  const version = model.latest_version.id;
  const reference = JSON.stringify(`${nameOf(model)}:${version}`);
  const body = JSON.stringify({ version, input });
  const keywords = Object.entries(input).map(([key, value]) => `        ${toPython(key)}: ${toPython(value)},`);
  const request = `curl -s ${base}/v1/predictions \\
  -H "Authorization: Bearer $REPLICATE_API_TOKEN" \\
  -H "Content-Type: application/json" -H "Prefer: wait" \\
  -d ${quoteForShell(body)}`;
  /** @type {(write: (key: string, name: string) => string, otherwise: string) => string} */
  const lines = (write, otherwise) => files.map(({ key, name }) => write(key, name)).join("\n") || otherwise;
  /** @type {(key: string, name: string) => string} */
  const fetched = (key, name) => {
    const path = key ? `.output.${key}` : ".output";
    return `curl -so ${quoteForShell(name)} "$(jq -r ${path} <<< "$prediction")"`;
  };
  return {
    curl: files.length ? `prediction=$(${request})\n${lines(fetched, "")}` : request,
    Python: `# pip install replicate
# export REPLICATE_BASE_URL=${base} REPLICATE_API_TOKEN=...
${files.length ? "from pathlib import Path\n\n" : ""}import replicate

output = replicate.run(
    ${reference},
    input={
${keywords.join("\n")}
    },
)
${lines((key, name) => `Path(${toPython(name)}).write_bytes(output${key && `["${key}"]`}.read())`, "print(output)")}`,
    JavaScript: `// npm install replicate
${files.length ? 'import { writeFile } from "node:fs/promises";\n' : ""}import Replicate from "replicate";

const replicate = new Replicate({ auth: process.env.REPLICATE_API_TOKEN, baseUrl: "${base}/v1" });
const output = await replicate.run(${reference}, { input: ${JSON.stringify(input, null, 2)} });
${lines((key, name) => `await writeFile("${name}", output${key && `.${key}`});`, "console.log(output);")}`,
  };
}

/** @param {{ model: Model, input: Values, output: unknown }} props */
export function Programs({ model, input, output }) {
  const byLanguage = programs(model, input, outputFiles(model.latest_version, output));
  const [language, setLanguage] = useState("Python");
  const program = byLanguage[language];
  const shown = useRef(/** @type {HTMLElement | null} */ (null));
  const select = () => shown.current && getSelection()?.selectAllChildren(shown.current);
  return html`<div class="controls" role="group" aria-label="Language">
      ${Object.keys(byLanguage).map(
        (name) =>
          html`<button
            type="button"
            key=${name}
            aria-pressed=${name === language ? "true" : "false"}
            onClick=${() => setLanguage(name)}
          >
            ${name}
          </button>`,
      )}
      ${canCopy && html`<${CopyButton} text=${program} label="Copy" />`}
      ${!canCopy && html`<button type="button" onClick=${select}>Select</button>`}
    </div>
    <pre tabindex="0" id="program" ref=${shown}><code>${program}</code></pre>`;
}

// The request as code to copy and run.
import { html, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { nameOf } from "./api.js";
/** @import { Model, Values } from "./types.js" */

const COPIED_MS = 1500;

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

/**
 * @param {Model} model
 * @param {Values} input
 * @returns {Record<string, string>}
 */
function programs(model, input) {
  const base = location.origin;
  const version = model.latest_version.id;
  const reference = JSON.stringify(`${nameOf(model)}:${version}`);
  const body = JSON.stringify({ version, input });
  const keywords = Object.entries(input).map(([key, value]) => `        ${toPython(key)}: ${toPython(value)},`);
  return {
    curl: `curl -s ${base}/v1/predictions \\
  -H "Authorization: Bearer $REPLICATE_API_TOKEN" \\
  -H "Content-Type: application/json" -H "Prefer: wait" \\
  -d ${quoteForShell(body)}`,
    Python: `# pip install replicate
# export REPLICATE_BASE_URL=${base} REPLICATE_API_TOKEN=...
import replicate

output = replicate.run(
    ${reference},
    input={
${keywords.join("\n")}
    },
)
print(output)`,
    JavaScript: `// npm install replicate
import Replicate from "replicate";

const replicate = new Replicate({ auth: process.env.REPLICATE_API_TOKEN, baseUrl: "${base}/v1" });
const output = await replicate.run(${reference}, { input: ${JSON.stringify(input, null, 2)} });
console.log(output);`,
  };
}

/** Browsers give the clipboard to local pages and to those with TLS. */
export const canCopy = Boolean(navigator.clipboard);

/**
 * Copy a text.
 * @param {{ text: string, label: string, quiet?: boolean }} props
 */
export function CopyButton({ text, label, quiet }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), COPIED_MS);
  };
  return html`<button type="button" class=${quiet ? "quiet" : ""} onClick=${copy}>
    ${copied ? "Copied" : label}
  </button>`;
}

/** @param {{ model: Model, input: Values }} props */
export function Code({ model, input }) {
  const byLanguage = programs(model, input);
  const [language, setLanguage] = useState("Python");
  const program = byLanguage[language];
  const shown = useRef(/** @type {HTMLElement | null} */ (null));
  const select = () => shown.current && getSelection()?.selectAllChildren(shown.current);
  return html`<details class="code">
    <summary>Use from code</summary>
    <div class="controls" role="group" aria-label="Language">
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
    <pre tabindex="0" id="program" ref=${shown}><code>${program}</code></pre>
  </details>`;
}

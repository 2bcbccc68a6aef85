// The request as code that one can copy and run.
import { html, useState } from "./vendor/htm-preact-3.1.1.js";

/** Write a value of JSON in Python. */
function python(value) {
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (value && typeof value === "object") return `{${Object.entries(value).map(([key, one]) => `${python(key)}: ${python(one)}`).join(", ")}}`;
  return { true: "True", false: "False", null: "None" }[JSON.stringify(value)] ?? JSON.stringify(value);
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`; // for a POSIX shell

/** Return the programs for a version and an input. */
export function programs(model, version, input) {
  const base = location.origin;
  const name = `${model.owner}/${model.name}:${version.id}`;
  const pretty = JSON.stringify(input, null, 2);
  return {
    curl: `curl -s ${base}/v1/predictions \\
  -H "Authorization: Bearer $REPLICATE_API_TOKEN" \\
  -H "Content-Type: application/json" -H "Prefer: wait" \\
  -d ${quoted(JSON.stringify({ version: version.id, input }))}`,
    Python: `# pip install replicate
# export REPLICATE_BASE_URL=${base} REPLICATE_API_TOKEN=...
import replicate

output = replicate.run(
    ${JSON.stringify(name)},
    input={
${Object.entries(input).map(([key, value]) => `        ${JSON.stringify(key)}: ${python(value)},`).join("\n")}
    },
)
print(output)`,
    JavaScript: `// npm install replicate
import Replicate from "replicate";

const replicate = new Replicate({ auth: process.env.REPLICATE_API_TOKEN, baseUrl: "${base}/v1" });
const output = await replicate.run(${JSON.stringify(name)}, { input: ${pretty} });
console.log(output);`,
  };
}

export function Code({ model, version, input }) {
  const all = programs(model, version, input);
  const [language, setLanguage] = useState("Python");
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    if (!navigator.clipboard) return getSelection().selectAllChildren(document.getElementById("program"));
    await navigator.clipboard.writeText(all[language]);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return html`<details class="code">
    <summary>This request as code</summary>
    <div class="controls" role="group" aria-label="Language">
      ${Object.keys(all).map((name) => html`<button type="button" key=${name} aria-pressed=${name === language ? "true" : "false"} onClick=${() => setLanguage(name)}>${name}</button>`)}
      <button type="button" onClick=${copy}>${copied ? "Copied" : "Copy"}</button>
    </div>
    <pre tabindex="0" id="program"><code>${all[language]}</code></pre>
  </details>`;
}

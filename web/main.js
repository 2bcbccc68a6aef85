// The page's start: signing in, and loading the models.
import { html, render, useCallback, useEffect, useState } from "./vendor/htm-preact-3.1.1.js";
import { ApiError, listModels, messageOf, onSignedOut, storeToken, takeToken } from "./api.js";
import { Playground } from "./playground.js";
/** @import { Model } from "./types.js" */

const RETRY_MS = 2000;

function Page() {
  const [token, setToken] = useState(takeToken);
  const [models, setModels] = useState(/** @type {Model[] | null} */ (null));
  const [problem, setProblem] = useState("");
  /** @type {(given: string, why?: string) => void} */
  const keep = (given, why = "") => {
    storeToken(given);
    setToken(given);
    setModels(null);
    setProblem(why);
  };
  const load = useCallback(async () => {
    if (!token) return;
    try {
      setModels(await listModels());
      setProblem("");
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return keep("", "Invalid token.");
      setProblem(messageOf(error, "Can't reach the server. Retrying…"));
      setTimeout(load, RETRY_MS);
    }
  }, [token]);
  useEffect(() => void load(), [load]);
  useEffect(() => (models ? onSignedOut((why) => keep("", why)) : undefined), [models]);

  if (!token) return html`<${SignIn} problem=${problem} onToken=${keep} />`;
  if (!models) return html`<main class="loading"><p role="status">${problem || "Loading…"}</p></main>`;
  if (!models.length) {
    return html`<main class="loading"><p>This server's catalog (GATEWAY_CATALOG) has no models.</p></main>`;
  }
  return html`<${Playground} models=${models} onSignOut=${() => keep("")} />`;
}

/** @param {{ problem: string, onToken: (token: string) => void }} props */
function SignIn({ problem, onToken }) {
  const [text, setText] = useState("");
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    onToken(text.trim());
  };
  return html`<main class="sign-in">
    <h1><img src="/web/icon.svg" alt="" width="28" height="28" /> Playground</h1>
    <form onSubmit=${submit}>
      <label class="field" for="token"><span>API token</span></label>
      <input
        id="token"
        type="password"
        autocomplete="off"
        value=${text}
        onInput=${(/** @type {{ target: HTMLInputElement }} */ { target }) => setText(target.value)}
        aria-describedby="token-about"
      />
      <p class="about" id="token-about">
        Open the link that script/serve prints, or create a token with script/token.
      </p>
      ${problem && html`<p class="error" role="alert">${problem}</p>`}
      <button class="primary" disabled=${!text.trim()}>Sign in</button>
    </form>
  </main>`;
}

const place = /** @type {HTMLElement} */ (document.getElementById("app"));
place.replaceChildren(); // what stood there until this ran
render(html`<${Page} />`, place);

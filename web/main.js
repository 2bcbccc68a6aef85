// The page's start: signing in, and loading the models.
import { html, render, useCallback, useEffect, useState } from "./vendor/htm-preact-3.1.1.js";
import { ApiError, listModels, messageOf, onSignedOut, storeToken, takeToken } from "./api.js";
import { Playground } from "./playground.js";
import { loadViews } from "./view.js";
/** @import { Model, View } from "./types.js" */

const RETRY_MS = 2000;

function Page() {
  const [token, setToken] = useState(takeToken);
  const [offer, setOffer] = useState(/** @type {{ models: Model[], views: Record<string, View> } | null} */ (null));
  const [problem, setProblem] = useState("");
  /** @type {(given: string, why?: string) => void} */
  const keep = (given, why = "") => {
    storeToken(given);
    setToken(given);
    setOffer(null);
    setProblem(why);
  };
  const load = useCallback(async () => {
    if (!token) return;
    try {
      const models = await listModels();
      setOffer({ models, views: await loadViews(models) });
      setProblem("");
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return keep("", "Invalid token.");
      setProblem(messageOf(error, "Can't reach the server. Retrying…"));
      setTimeout(load, RETRY_MS);
    }
  }, [token]);
  useEffect(() => void load(), [load]);
  useEffect(() => (offer ? onSignedOut((why) => keep("", why)) : undefined), [offer]);

  if (!token) return html`<${SignIn} problem=${problem} onToken=${keep} />`;
  if (!offer) return html`<main class="loading"><p role="status">${problem || "Loading…"}</p></main>`;
  if (!offer.models.length) {
    return html`<main class="loading"><p>This server's catalog (GATEWAY_CATALOG) has no models.</p></main>`;
  }
  return html`<${Playground} ...${offer} onSignOut=${() => keep("")} />`;
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
    <h1>Playground</h1>
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

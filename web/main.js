// The page: a form, a result, the history. State lives here; the other modules draw their part of it.
import { html, render, useCallback, useEffect, useMemo, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import * as api from "./api.js";
import { Code } from "./code.js";
import { Endless } from "./endless.js";
import { Form, inputsOf, standards, toInput, toValues } from "./form.js";
import { History } from "./history.js";
import { Curve, Strip, usePreview } from "./motion.js";
import { Result } from "./result.js";
import { audio } from "./sound.js";

const RETRY_MS = 2000;

const nameOf = (model) => `${model.owner}/${model.name}`;

function Page() {
  const [token, setToken] = useState(api.takeToken);
  const [models, setModels] = useState(null);
  const [problem, setProblem] = useState("");
  const load = useCallback(async () => {
    if (!token) return;
    try {
      setModels(await api.models());
      setProblem("");
    } catch (error) {
      if (error.status === 401) {
        api.keepToken("");
        setToken("");
        setProblem("This token is not valid here.");
      } else {
        setProblem(error.status ? error.message : "The server does not answer. Trying again …");
        setTimeout(load, RETRY_MS);
      }
    }
  }, [token]);
  useEffect(() => void load(), [load]);

  if (!token) return html`<${SignIn} problem=${problem} onToken=${(given) => (api.keepToken(given), setToken(given), setProblem(""))} />`;
  if (!models) return html`<main class="loading"><p role="status">${problem || "Loading …"}</p></main>`;
  if (!models.length) return html`<main class="loading"><p>This server offers no models: see GATEWAY_CATALOG in docs/gateway.md.</p></main>`;
  return html`<${Playground} models=${models} onSignOut=${() => (api.keepToken(""), setToken(""), setModels(null))} />`;
}

function SignIn({ problem, onToken }) {
  const [text, setText] = useState("");
  return html`<main class="sign-in">
    <h1>Playground</h1>
    <form onSubmit=${(event) => (event.preventDefault(), onToken(text.trim()))}>
      <label class="field" for="token"><span>API token</span></label>
      <input id="token" type="password" autocomplete="off" value=${text} onInput=${(event) => setText(event.target.value)} aria-describedby="token-about" />
      <p class="about" id="token-about">script/serve prints a link that brings it along; script/token makes more.</p>
      ${problem && html`<p class="error" role="alert">${problem}</p>`}
      <button class="primary" disabled=${!text.trim()}>Enter</button>
    </form>
  </main>`;
}

function Playground({ models, onSignOut }) {
  const asked = useMemo(() => new URLSearchParams(location.search), []);
  const [model, setModel] = useState(() => models.find((one) => nameOf(one) === asked.get("model")) ?? models[0]);
  const [drafts, setDrafts] = useState({}); // by model: what its fields show
  const [errors, setErrors] = useState({}); // by input: a sentence
  const [prediction, setPrediction] = useState(null);
  const [place, setPlace] = useState(null);
  const [lost, setLost] = useState(false);
  const [problem, setProblem] = useState("");
  const [kept, setKept] = useState(null);
  const [endless, setEndless] = useState(false);
  const [fresh, setFresh] = useState(null); // the id of what was run here: it is heard as soon as it is there
  const history = useHistory();
  const following = useRef(null);
  const sending = useRef(null); // what is being sent now, {cancelled}: Escape may come before the answer
  const last = useRef({}); // by model: the prediction that was shown

  const version = model.latest_version;
  const inputs = useMemo(() => inputsOf(version), [version]);
  const values = drafts[nameOf(model)] ?? standards(inputs);
  const input = toInput(inputs, values);
  const moving = inputs.some(({ name }) => name === "zoom");
  const preview = usePreview(model, input, moving);
  const running = prediction && !api.ended(prediction);
  const musical = inputs.some(({ name }) => name === "prompt_b");

  const setValues = (changed) => {
    setDrafts({ ...drafts, [nameOf(model)]: changed });
    setErrors({});
  };

  const follow = async (begun) => {
    following.current?.abort(new Error("another is shown"));
    const stop = (following.current = new AbortController());
    const show = (news) => setPrediction((last.current[news.model] = news));
    show(begun);
    setPlace(null);
    setLost(false);
    if (api.ended(begun)) return;
    try {
      await api.follow(begun.id, (news, where) => (show(news), setPlace(where), history.put(news)), setLost, stop.signal);
    } catch (error) {
      if (!stop.signal.aborted) setProblem(error.message);
    }
  };

  const run = async () => {
    if (musical) audio(); // this gesture is what lets it sound later
    setErrors({});
    setProblem("");
    const sent = (sending.current = { cancelled: false });
    try {
      const begun = await api.create(version.id, input);
      if (sent.cancelled) api.cancel(begun.id).catch((error) => setProblem(error.message));
      if (sending.current === sent) sending.current = null;
      history.put(begun);
      setFresh(begun.id);
      document.getElementById("result")?.scrollIntoView({ block: "nearest" });
      window.history.replaceState(null, "", `?prediction=${begun.id}`);
      await follow(begun);
    } catch (error) {
      if (sending.current === sent) sending.current = null;
      setErrors(Object.fromEntries((error.fields ?? []).map(({ field, description }) => [field.replace(/^input\./, ""), description])));
      setProblem(error.fields?.length ? "Some inputs need mending: see above each." : error.status ? error.message : "The server does not answer; nothing was sent.");
      if (error.fields?.length) document.getElementById(`input-${error.fields[0].field.replace(/^input\./, "")}`)?.focus();
    }
  };
  const cancel = () => {
    if (sending.current) sending.current.cancelled = true;
    else if (running) api.cancel(prediction.id).catch((error) => setProblem(error.message));
  };

  /** Turn to another model, and to what was last shown of it. */
  const choose = (its) => {
    setModel(its);
    setErrors({});
    setProblem("");
    const earlier = last.current[nameOf(its)];
    following.current?.abort(new Error("another model is shown"));
    setPrediction(null);
    window.history.replaceState(null, "", earlier ? `?prediction=${earlier.id}` : `?model=${nameOf(its)}`);
    if (earlier) follow(earlier);
  };

  const open = (chosen) => {
    setProblem("");
    setErrors({});
    window.history.replaceState(null, "", `?prediction=${chosen.id}`);
    const its = models.find((one) => nameOf(one) === chosen.model);
    if (its) {
      setModel(its);
      if (!chosen.data_removed) setDrafts((all) => ({ ...all, [nameOf(its)]: toValues(inputsOf(its.latest_version), chosen.input) }));
    }
    follow(chosen);
    document.getElementById("result")?.scrollIntoView({ block: "nearest" });
  };

  useEffect(() => {
    const id = asked.get("prediction");
    if (id) api.get(id).then(open, (error) => setProblem(error.status === 404 ? `There is no prediction ${id} of this token.` : error.message));
    return () => following.current?.abort(new Error("the page closes"));
  }, []);

  const actions = useRef();
  actions.current = { run, cancel };
  useEffect(() => {
    const keys = (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) (event.preventDefault(), actions.current.run());
      if (event.key === "Escape") actions.current.cancel();
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);

  // The model's own refusals name their input first: "zoom, keyframe 0: ...".
  // They stand at a field for as long as it shows what was refused.
  const refused = prediction?.status === "failed" && prediction.error ? byInput(inputs, prediction.error) : {};
  for (const name of Object.keys(refused)) if (input[name] !== prediction.input[name]) delete refused[name];
  const shownErrors = { ...preview?.errors, ...refused, ...errors };
  const curves = (name) => {
    if (preview?.curves[name]) return html`<${Curve} name=${name} values=${preview.curves[name]} />`;
    if (preview?.prompts.length && name === "animation_prompts") return html`<${Strip} prompts=${preview.prompts} frames=${preview.frames} />`;
    return null;
  };
  const recent = history.predictions.filter((one) => one.status === "succeeded" && one.output?.audio).slice(0, 8).reverse();

  return html`
    <header>
      <h1>Playground</h1>
      <nav aria-label="Models">
        ${models.map((one) => html`<button type="button" key=${nameOf(one)} aria-pressed=${one === model ? "true" : "false"} onClick=${() => choose(one)}>${one.name.replaceAll("_", " ")}</button>`)}
      </nav>
      <button type="button" class="quiet" onClick=${onSignOut}>forget token</button>
    </header>
    <main>
      <section class="ask" aria-labelledby="ask-title">
        <h2 id="ask-title">${nameOf(model)}</h2>
        <p class="about lead">${model.description}</p>
        <form onSubmit=${(event) => (event.preventDefault(), run())} noValidate>
          <${Form} key=${nameOf(model)} model=${model} inputs=${inputs} values=${values} errors=${shownErrors} curves=${curves} onChange=${setValues} />
          <div class="controls run">
            <button class="primary" aria-keyshortcuts="Control+Enter">Run <kbd aria-hidden="true">Ctrl ↵</kbd></button>
            <button type="button" onClick=${cancel} disabled=${!running} aria-keyshortcuts="Escape">Cancel <kbd aria-hidden="true">Esc</kbd></button>
            ${musical && html`<button type="button" onClick=${() => setEndless(true)} disabled=${endless}>Endless …</button>`}
            <button type="button" class="quiet" onClick=${() => setValues(standards(inputs))}>defaults</button>
          </div>
          ${problem && html`<p class="error" role="alert">${problem}</p>`}
        </form>
        <${Code} model=${model} version=${version} input=${input} />
      </section>
      <div class="answer" id="result">
        ${endless && musical && html`<${Endless} version=${version} settings=${input} onClose=${() => setEndless(false)} />`}
        <${Result} prediction=${prediction} place=${place} lost=${lost} kept=${kept} onKeep=${setKept} recent=${recent} fresh=${fresh} model=${model} />
        <${History} predictions=${history.predictions} next=${history.next} error=${history.error} models=${models} current=${prediction?.id} onMore=${history.more} onOpen=${open} />
      </div>
    </main>
  `;
}

/** Keep the list of predictions: the first page at the start, older ones on demand, changes as they come. */
function useHistory() {
  const [predictions, setPredictions] = useState([]);
  const [next, setNext] = useState(null);
  const [error, setError] = useState("");
  const busy = useRef(false);
  const more = async (from) => {
    if (busy.current) return;
    busy.current = true;
    try {
      const page = await api.page(from);
      setPredictions((all) => [...all, ...page.results.filter((one) => !all.some(({ id }) => id === one.id))]);
      setNext(page.next);
      setError("");
    } catch (problem) {
      setError(problem.status ? problem.message : "The history can't be loaded: the server does not answer.");
    }
    busy.current = false;
  };
  useEffect(() => void more(), []);
  // What runs, wherever it was begun, is asked for until it ends; and the first page as long as there is none.
  const going = predictions.some((one) => !api.ended(one));
  useEffect(() => {
    if (!going && !error) return undefined;
    const timer = setInterval(async () => {
      const page = await api.page().catch(() => null);
      if (!page) return;
      setError("");
      setNext((older) => older ?? page.next);
      setPredictions((all) => {
        const known = new Map(page.results.map((one) => [one.id, one]));
        const newer = page.results.filter((one) => !all.some(({ id }) => id === one.id));
        return [...newer, ...all.map((one) => known.get(one.id) ?? one)];
      });
    }, RETRY_MS);
    return () => clearInterval(timer);
  }, [going, error]);
  const put = (changed) => setPredictions((all) => (all.some(({ id }) => id === changed.id) ? all.map((one) => (one.id === changed.id ? changed : one)) : [changed, ...all]));
  return { predictions, next, error, more: () => more(next), put };
}

/** Sort a model's sentences by the input that each names first. */
function byInput(inputs, error) {
  const found = {};
  for (const line of error.split("\n")) {
    const named = inputs.find(({ name }) => line.startsWith(name) && !/\w/.test(line[name.length] ?? " "));
    if (named) found[named.name] = found[named.name] ? `${found[named.name]}\n${line}` : line;
  }
  return found;
}

const place = document.getElementById("app");
place.replaceChildren(); // what stood there until this ran
render(html`<${Page} />`, place);

// The page once the models are loaded: a model's form, the result, the history.
import { html, useEffect, useMemo, useState } from "./vendor/htm-preact-3.1.1.js";
import { ApiError, get, hasEnded, messageOf, nameOf } from "./api.js";
import { Code } from "./code.js";
import { Form, inputsOf, toDraft, toInput } from "./form.js";
import { History, useHistory } from "./history.js";
import { Result } from "./result.js";
import { rejectedBy, useRun, useShortcuts, useShown } from "./run.js";
import { GENERIC, usePreview } from "./view.js";
/** @import { Draft, Model, Prediction, Values, View } from "./types.js" */

/** @type {(models: Model[], name: string | null) => Model | undefined} */
const findModel = (models, name) => models.find((one) => nameOf(one) === name);

/** @param {string} query which model or prediction is shown, for reloading and sharing */
const setAddress = (query) => window.history.replaceState(null, "", query);

const scrollToResult = () => document.getElementById("result")?.scrollIntoView({ block: "nearest" });

/**
 * Keep what the form of each model shows.
 * @param {Model} model the one that is chosen
 */
function useForm(model) {
  const [drafts, setDrafts] = useState(/** @type {Record<string, Draft>} */ ({}));
  const inputs = useMemo(() => inputsOf(model.latest_version), [model]);
  const draft = drafts[nameOf(model)] ?? toDraft(inputs);
  /** @type {(draft: Draft, its?: Model) => void} */
  const setDraft = (changed, its = model) => setDrafts((all) => ({ ...all, [nameOf(its)]: changed }));
  /** @type {(its: Model, input?: Values) => void} */
  const fill = (its, input) => setDraft(toDraft(inputsOf(its.latest_version), input), its);
  return { inputs, draft, input: toInput(inputs, draft), setDraft, fill };
}

/**
 * Keep what the page shows, and change it.
 * @param {Model[]} models at least one
 */
function usePlayground(models) {
  const asked = useMemo(() => new URLSearchParams(location.search), []);
  const first = models.find(({ page }) => page) ?? models[0]; // one with a view of its own, if there is one
  const [model, setModel] = useState(/** @type {Model} */ (findModel(models, asked.get("model")) ?? first));
  const form = useForm(model);
  const runs = useRun((started) => {
    history.put(started);
    setAddress(`?prediction=${started.id}`);
    shown.show(started);
    scrollToResult();
  });
  const shown = useShown((news) => {
    history.put(news);
    if (hasEnded(news)) history.refresh(); // others may have run something meanwhile
  }, runs.fail);
  const history = useHistory(shown.prediction?.id);

  /** @param {Model} chosen */
  const choose = (chosen) => {
    setModel(chosen);
    runs.clear();
    const latest = shown.latestOf(nameOf(chosen));
    setAddress(latest ? `?prediction=${latest.id}` : `?model=${nameOf(chosen)}`);
    if (latest) shown.show(latest);
    else shown.hide();
  };
  /** @param {Prediction} prediction */
  const open = (prediction) => {
    const its = findModel(models, prediction.model);
    if (its) setModel(its);
    if (its && !prediction.data_removed) form.fill(its, prediction.input);
    runs.clear();
    setAddress(`?prediction=${prediction.id}`);
    shown.show(prediction);
    scrollToResult();
  };
  useEffect(() => {
    const id = asked.get("prediction");
    if (!id) return;
    get(id).then(open, (error) => {
      const unknown = error instanceof ApiError && error.status === 404;
      runs.setProblem(unknown ? `Prediction ${id} not found.` : messageOf(error));
    });
  }, []);
  return { model, form, runs, shown, history, choose, open };
}

/** @param {{ models: Model[], views: Record<string, View>, onSignOut: () => void }} props */
export function Playground({ models, views, onSignOut }) {
  const { model, form, runs, shown, history, choose, open } = usePlayground(models);
  const [pinned, setPinned] = useState(/** @type {Prediction | null} */ (null));
  const [mode, setMode] = useState(""); // the name of the panel that is open
  const view = views[nameOf(model)] ?? GENERIC;
  const { prediction, position, lost } = shown;
  const its = findModel(models, prediction?.model ?? null) ?? model; // it may be another one than the form's
  const Panel = view.modes?.find(({ name }) => name === mode)?.Panel;
  return html`
    <${Header} models=${models} model=${model} onChoose=${choose} onSignOut=${onSignOut} />
    <main>
      <${Ask}
        model=${model}
        view=${view}
        form=${form}
        runs=${runs}
        prediction=${prediction}
        mode=${mode}
        onMode=${setMode}
      />
      <div class="answer" id="result">
        ${Panel && html`<${Panel} version=${model.latest_version} input=${form.input} onClose=${() => setMode("")} />`}
        <${Result}
          view=${views[nameOf(its)] ?? GENERIC}
          model=${its}
          prediction=${prediction}
          position=${position}
          lost=${lost}
          fresh=${prediction?.id === runs.startedId}
          predictions=${history.predictions}
          pinned=${pinned}
          onPin=${setPinned}
        />
        <${History} history=${history} models=${models} views=${views} shownId=${prediction?.id} onOpen=${open} />
      </div>
    </main>
  `;
}

/**
 * The form, what runs it, and the request as code.
 * @param {object} props
 * @param {Model} props.model
 * @param {View} props.view
 * @param {ReturnType<typeof useForm>} props.form
 * @param {ReturnType<typeof useRun>} props.runs
 * @param {Prediction | null} props.prediction
 * @param {string} props.mode
 * @param {(mode: string) => void} props.onMode
 */
function Ask({ model, view, form, runs, prediction, mode, onMode }) {
  const { inputs, draft, input } = form;
  const preview = usePreview(model, input, Boolean(view.Hint));
  const errors = { ...preview?.errors, ...rejectedBy(prediction, inputs, input), ...runs.errors };
  const run = () => {
    view.onRun?.();
    void runs.run(model.latest_version, input);
  };
  const cancel = () => runs.cancel(prediction);
  useShortcuts({ onRun: run, onCancel: cancel });
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    run();
  };
  /** @param {Draft} changed */
  const change = (changed) => {
    form.setDraft(changed);
    runs.clear();
  };
  return html`<section class="ask" aria-labelledby="ask-title">
    <h2 id="ask-title">${nameOf(model)}</h2>
    <p class="about lead">${model.description}</p>
    <form onSubmit=${submit} noValidate>
      <${Form}
        key=${nameOf(model)}
        view=${view}
        inputs=${inputs}
        draft=${draft}
        errors=${errors}
        preview=${preview}
        onChange=${change}
      />
      <${RunBar}
        view=${view}
        mode=${mode}
        running=${prediction && !hasEnded(prediction)}
        onCancel=${cancel}
        onMode=${onMode}
        onReset=${() => change(toDraft(inputs))}
        problem=${runs.problem}
      />
    </form>
    <${Code} model=${model} input=${input} />
  </section>`;
}

/**
 * @param {object} props
 * @param {Model[]} props.models
 * @param {Model} props.model
 * @param {(model: Model) => void} props.onChoose
 * @param {() => void} props.onSignOut
 */
function Header({ models, model, onChoose, onSignOut }) {
  return html`<header>
    <h1>Playground</h1>
    <nav aria-label="Models">
      ${models.map(
        (one) =>
          html`<button
            type="button"
            key=${nameOf(one)}
            aria-pressed=${one === model ? "true" : "false"}
            onClick=${() => onChoose(one)}
          >
            ${one.name.replaceAll("_", " ")}
          </button>`,
      )}
    </nav>
    <button type="button" class="quiet" onClick=${onSignOut}>Sign out</button>
  </header>`;
}

/**
 * @param {object} props
 * @param {View} props.view
 * @param {string} props.mode
 * @param {boolean} props.running
 * @param {() => void} props.onCancel
 * @param {(mode: string) => void} props.onMode
 * @param {() => void} props.onReset
 * @param {string} props.problem
 */
function RunBar({ view, mode, running, onCancel, onMode, onReset, problem }) {
  return html`<div class="controls run">
    ${problem && html`<p class="error" role="alert">${problem}</p>`}
    <button class="primary" aria-keyshortcuts="Control+Enter">Run <kbd aria-hidden="true">Ctrl ↵</kbd></button>
    <button type="button" onClick=${onCancel} disabled=${!running} aria-keyshortcuts="Escape">
      Cancel <kbd aria-hidden="true">Esc</kbd>
    </button>
    ${view.modes?.map(
      ({ name }) =>
        html`<button type="button" key=${name} onClick=${() => onMode(name)} disabled=${name === mode}>
          ${name}…
        </button>`,
    )}
    <button type="button" class="quiet" onClick=${onReset}>Reset all</button>
  </div>`;
}

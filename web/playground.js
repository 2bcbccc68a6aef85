// The page once the models are loaded: a model's form, the result, the history.
import { html, useEffect, useMemo, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { get, hasEnded, hasInputs, nameOf } from "./api.js";
import { Ask } from "./ask.js";
import { inputsOf, toDraft, toInput } from "./form.js";
import { History, useHistory } from "./history.js";
import { Result, progressOf } from "./result.js";
import { useRun, useShown } from "./run.js";
import { GENERIC, titleOf, useViews } from "./view.js";
/** @import { ComponentType } from "preact" */
/** @import { Draft, Model, PanelProps, Prediction, Values, View } from "./types.js" */

/** @type {(models: Model[], name: string | null) => Model | undefined} */
const findModel = (models, name) => models.find((one) => nameOf(one) === name);

/** @param {string} query which model or prediction is shown, for Back and Forward, for reloading and sharing */
const setAddress = (query) => {
  if (query !== location.search) history.pushState(null, "", query);
};

/**
 * Call a function at the start, and when the user goes back or forward.
 * @param {(asked: URLSearchParams) => void} onMove
 */
function useAddress(onMove) {
  const current = useRef(onMove);
  current.current = onMove;
  useEffect(() => {
    const move = () => current.current(new URLSearchParams(location.search));
    move();
    addEventListener("popstate", move);
    return () => removeEventListener("popstate", move);
  }, []);
}

/** Scroll to the result once it is drawn. If it was opened, rather than run, it also gets the focus. */
function useScroll() {
  const [target, setTarget] = useState(/** @type {{ opened: boolean } | null} */ (null));
  useEffect(() => {
    if (!target) return;
    const title = document.getElementById("result-title");
    const top_px = title?.getBoundingClientRect().top ?? 0;
    const isVisible = top_px >= 0 && top_px < innerHeight / 2;
    if (target.opened || !isVisible) title?.closest("section")?.scrollIntoView();
    if (target.opened) title?.focus({ preventScroll: true });
  }, [target]);
  return (/** @type {boolean} */ opened) => setTarget({ opened });
}

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
  const first = models.find(({ page }) => page) ?? models[0]; // one with a view of its own, if there is one
  const [model, setModel] = useState(
    () => /** @type {Model} */ (findModel(models, new URLSearchParams(location.search).get("model")) ?? first),
  );
  const form = useForm(model);
  const scroll = useScroll();
  const runs = useRun((started) => {
    past.put(started);
    setAddress(`?prediction=${started.id}`);
    shown.show(started, true);
    scroll(false);
  });
  const shown = useShown((news) => {
    past.put(news);
    if (hasEnded(news)) past.refresh(true); // others may have run something meanwhile
  }, runs.fail);
  const past = useHistory(shown.prediction?.id);

  /** @type {(chosen: Model, latest?: Prediction) => void} */
  const turnTo = (chosen, latest) => {
    setModel(chosen);
    runs.clear();
    if (latest) shown.show(latest);
    else shown.hide();
  };
  /** @param {Model} chosen */
  const choose = (chosen) => {
    const latest = shown.latestOf(nameOf(chosen));
    setAddress(latest ? `?prediction=${latest.id}` : `?model=${nameOf(chosen)}`);
    turnTo(chosen, latest);
  };
  /** @param {Prediction} prediction */
  const show = (prediction) => {
    const its = findModel(models, prediction.model);
    if (its) setModel(its);
    if (its && !prediction.data_removed) form.fill(its, prediction.input);
    runs.clear();
    shown.show(prediction);
  };
  /** @param {Prediction} prediction */
  const open = (prediction) => {
    setAddress(`?prediction=${prediction.id}`);
    show(prediction);
    scroll(true);
  };
  /** @param {string} id */
  const find = (id) => {
    const known = past.predictions.find((one) => one.id === id);
    Promise.resolve(known ?? get(id)).then(show, (error) => runs.fail(error, `Prediction ${id} not found.`));
  };
  useAddress((wanted) => {
    const id = wanted.get("prediction");
    if (id) find(id);
    else turnTo(findModel(models, wanted.get("model")) ?? model);
  });
  return { model, form, runs, shown, past, choose, open };
}

/**
 * Let the window's title say what is shown, and how far a run is.
 * @param {Prediction | null} prediction
 * @param {View} view
 */
function useTitle(prediction, view) {
  const at = prediction && !hasEnded(prediction) ? progressOf(prediction.logs) : null;
  const parts = prediction ? [at && `${at.percent}%`, titleOf(prediction, view).slice(0, 60)] : [];
  const title = [...parts, "Playground"].filter(Boolean).join(" · ");
  useEffect(() => void (document.title = title), [title]);
}

/**
 * Load the panel of a view's mode.
 * @param {View | undefined} view
 * @param {string} mode
 */
function usePanel(view, mode) {
  const [panels, setPanels] = useState(/** @type {Map<unknown, ComponentType<PanelProps>>} */ (new Map()));
  const found = view?.modes?.find(({ name }) => name === mode);
  useEffect(() => {
    if (found) void found.load().then((Panel) => setPanels((known) => new Map(known).set(found, Panel)));
  }, [found]);
  return panels.get(found);
}

/** @param {{ models: Model[], onSignOut: () => void }} props */
export function Playground({ models, onSignOut }) {
  const { model, form, runs, shown, past, choose, open } = usePlayground(models);
  const [pinned, setPinned] = useState(/** @type {Prediction | null} */ (null));
  const [mode, setMode] = useState(""); // the name of the panel that is open
  const views = useViews(models, [nameOf(model), ...past.predictions.map((one) => one.model)]);
  const view = views[nameOf(model)];
  const { prediction, kept, position, lost } = shown;
  const its = findModel(models, prediction?.model ?? null) ?? model; // it may be another one than the form's
  const itsView = views[nameOf(its)] ?? GENERIC;
  const Panel = usePanel(view, mode);
  useTitle(prediction, itsView);
  const header = html`<${Header} models=${models} model=${model} onChoose=${choose} onSignOut=${onSignOut} />`;
  if (!view) return html`${header}<main class="loading"><p role="status">Loading…</p></main>`;
  /** @param {Values} input */
  const runExample = (input) => {
    form.fill(model, input);
    view.onRun?.();
    void runs.run(model.latest_version, input);
  };
  /** @param {Values} values */
  const again = (values) => (its === model ? () => form.fill(model, { ...form.input, ...values }) : null);
  /** @param {Values} values */
  const next = (values) => {
    const other = models.find((one) => one !== its && hasInputs(one, values));
    return other ? () => void (form.fill(other, values), choose(other)) : null;
  };
  return html`
    ${header}
    <main>
      <${Ask} ...${{ model, view, form, runs, prediction, mode, onMode: setMode }} />
      <div class="answer">
        ${
          Panel &&
          html`<${Panel}
          version=${model.latest_version}
          input=${form.input}
          onNews=${past.put}
          onClose=${() => setMode("")}
        />`
        }
        <${Result}
          view=${itsView}
          model=${its}
          prediction=${prediction}
          kept=${kept}
          position=${position}
          lost=${lost}
          startedId=${runs.startedId}
          pinned=${pinned}
          onPin=${setPinned}
          onExample=${runExample}
          onAgain=${again}
          onNext=${next}
        />
        <${History} past=${past} models=${models} views=${views} shownId=${prediction?.id} onOpen=${open} />
      </div>
    </main>
  `;
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
    <h1><img src="/web/icon.svg" alt="" width="28" height="28" /> Playground</h1>
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

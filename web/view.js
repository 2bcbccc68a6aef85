// Models' own views. A model's entry in the catalog names one: "page": "NAME" stands for models/NAME/index.js and
// styles/NAME.css. types.d.ts has the interface.
import { useEffect, useState } from "./vendor/htm-preact-3.1.1.js";
import { ApiError, nameOf, preview } from "./api.js";
/** @import { Model, Prediction, Preview, Values, View } from "./types.js" */

const TYPING_MS = 250;
const MAX_WORDS = 6; // of a title, in the name of a file
const MAX_NAME_CHARS = 60;
const REST_MS = 1000; // without a key, before errors of what was typed are shown

/** @type {View} */
export const GENERIC = {};

/**
 * Load the views of models when they are first wanted, and return those that are loaded, by owner/name.
 * @param {Model[]} models
 * @param {string[]} wanted names
 */
export function useViews(models, wanted) {
  const [views, setViews] = useState(/** @type {Record<string, View>} */ ({}));
  const missing = models.filter((one) => wanted.includes(nameOf(one)) && !views[nameOf(one)]);
  useEffect(() => {
    for (const model of missing) {
      void load(model.page).then((view) => setViews((known) => ({ ...known, [nameOf(model)]: view })));
    }
  }, [missing.map(nameOf).join()]);
  return views;
}

/**
 * @param {string | undefined} page
 * @returns {Promise<View>}
 */
async function load(page) {
  if (!page) return GENERIC;
  try {
    const [module] = await Promise.all([import(`./models/${page}/index.js`), addStyles(`./styles/${page}.css`)]);
    return module.default;
  } catch (error) {
    console.error(`Using the generic view, because ${page} can't be loaded:`, error);
    return GENERIC;
  }
}

/** @param {string} path relative to this module */
function addStyles(path) {
  const { href } = new URL(path, import.meta.url);
  if ([...document.styleSheets].some((sheet) => sheet.href === href)) return undefined;
  return new Promise((resolve, reject) => {
    const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href });
    link.onload = resolve;
    link.onerror = () => reject(new Error(`can't load ${href}`));
    document.head.append(link);
  });
}

/**
 * Name a prediction by its prompt, or whatever text its input has.
 * @param {Prediction} prediction
 * @param {View} view
 */
export function titleOf({ id, input, data_removed }, view) {
  if (data_removed) return "Data deleted";
  const text = Object.values(input).find((value) => value && typeof value === "string");
  return view.summary?.(input) || `${input["prompt"] || text || id}`;
}

/**
 * Name a file that is saved, such as church-bells-b5cnmd.wav.
 * @type {(title: string, id: string, suffix: string) => string}
 */
export function fileName(title, id, suffix) {
  const words = title.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  return `${[...words.slice(0, MAX_WORDS), id.slice(0, 6)].join("-").slice(-MAX_NAME_CHARS)}.${suffix}`;
}

const withoutPreview = new Set(); // models for which the gateway has answered 404

/**
 * Ask the model's preview server about an input each time it changes. The preview is null before the first answer, and
 * for models without such a server. It is current once the input has rested.
 * @param {Model} model
 * @param {Values} input
 * @param {boolean} wanted
 */
export function usePreview(model, input, wanted) {
  const [shown, setShown] = useState(/** @type {Preview | null} */ (null));
  const [isCurrent, setCurrent] = useState(true);
  useEffect(() => {
    if (!wanted || withoutPreview.has(model)) {
      setShown(null);
      return undefined;
    }
    const stop = new AbortController();
    const ask = setTimeout(() => {
      preview(model, input, stop.signal).then(setShown, (error) => {
        if (!(error instanceof ApiError) || error.status !== 404) return; // the next change asks again
        withoutPreview.add(model);
        setShown(null);
      });
    }, TYPING_MS);
    const rest = setTimeout(() => setCurrent(true), REST_MS);
    return () => {
      setCurrent(false);
      clearTimeout(ask);
      clearTimeout(rest);
      stop.abort();
    };
  }, [model, JSON.stringify(input), wanted]);
  return { preview: shown, isCurrent };
}

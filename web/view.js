// Models' own views. A model's entry in the catalog names one: "page": "NAME" stands for models/NAME/index.js and
// styles/NAME.css. types.d.ts has the interface.
import { useEffect, useState } from "./vendor/htm-preact-3.1.1.js";
import { ApiError, nameOf, preview } from "./api.js";
/** @import { Model, Preview, Values, View } from "./types.js" */

const TYPING_MS = 250;

/** @type {View} */
export const GENERIC = {};

/**
 * Load the views of all models, by owner/name.
 * @param {Model[]} models
 * @returns {Promise<Record<string, View>>}
 */
export async function loadViews(models) {
  const named = models.filter(({ page }) => page);
  const views = await Promise.all(named.map(({ page }) => load(`${page}`)));
  return Object.fromEntries(named.map((model, index) => [nameOf(model), views[index] ?? GENERIC]));
}

/**
 * @param {string} page
 * @returns {Promise<View>}
 */
async function load(page) {
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

const withoutPreview = new Set(); // models for which the gateway has answered 404

/**
 * Ask the model's preview server about an input each time it changes. Returns null before the first answer, and for
 * models without such a server.
 * @param {Model} model
 * @param {Values} input
 * @param {boolean} wanted
 */
export function usePreview(model, input, wanted) {
  const [shown, setShown] = useState(/** @type {Preview | null} */ (null));
  useEffect(() => {
    if (!wanted || withoutPreview.has(model)) {
      setShown(null);
      return undefined;
    }
    const stop = new AbortController();
    const timer = setTimeout(() => {
      preview(model, input, stop.signal).then(setShown, (error) => {
        if (!(error instanceof ApiError) || error.status !== 404) return; // the next change asks again
        withoutPreview.add(model);
        setShown(null);
      });
    }, TYPING_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [model, JSON.stringify(input), wanted]);
  return shown;
}

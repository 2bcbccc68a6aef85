// What models' views draw with: the colours of spectrograms, and motion.

const CALM_MS = 500; // between two positions of what moves, for users who prefer reduced motion

// matplotlib's magma, which is perceptually uniform, at seven equal distances. In the image, silence is white.
const LOUDEST_FIRST = "fcfdbf feb078 f1605d b73779 721f81 2c115f 000004".split(" ");

/** Add the filter that gives spectrograms their colours. The class `coloured` applies it. */
function addColours() {
  const table = (/** @type {number} */ at) => LOUDEST_FIRST.map((hex) => parseInt(hex.slice(at, at + 2), 16) / 255);
  const svg = document.createElement("div");
  svg.className = "hidden";
  svg.innerHTML = `<svg aria-hidden="true"><filter id="spectrogram-colours" color-interpolation-filters="sRGB">
    <feColorMatrix type="saturate" values="0" />
    <feComponentTransfer>
      <feFuncR type="table" tableValues="${table(0).join(" ")}" />
      <feFuncG type="table" tableValues="${table(2).join(" ")}" />
      <feFuncB type="table" tableValues="${table(4).join(" ")}" />
    </feComponentTransfer>
  </filter></svg>`;
  document.body.append(svg);
}
addColours();

/**
 * Draw in each frame of the screen, or twice a second for users who prefer reduced motion. Returns what ends it.
 * @param {() => void} draw
 */
export function animate(draw) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const timer = calm ? setInterval(draw, CALM_MS) : undefined;
  /** @type {number} */
  let request;
  const next = () => {
    draw();
    if (!calm) request = requestAnimationFrame(next);
  };
  next();
  return () => {
    clearInterval(timer);
    cancelAnimationFrame(request);
  };
}

// A spectrogram picture with its axes and a playhead.
import { html, useEffect, useRef } from "./vendor/htm-preact-3.1.1.js";

// Of the picture: 512 mel rows from 0 to 10 kHz on the HTK scale, mel = 2595 log10(1 + f / 700), the highest on top.
const TOP_HZ = 10_000;
const mel = (hz) => 2595 * Math.log10(1 + hz / 700);
const MARKS_HZ = [100, 250, 500, 1000, 2000, 4000, 8000];
const shown = (hz) => (hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`);

/** Draw a clip's picture; `player` moves the playhead, a click or the arrow keys seek. */
export function Spectrogram({ url, player, duration_s, label }) {
  const frame = useRef();
  const head = useRef();
  useEffect(() => {
    let request;
    const move = () => {
      const share = duration_s ? player.place_s / duration_s : 0;
      if (head.current) head.current.style.transform = `translateX(${share * frame.current.clientWidth}px)`;
      frame.current?.setAttribute("aria-valuenow", player.place_s.toFixed(2));
      request = requestAnimationFrame(move);
    };
    move();
    return () => cancelAnimationFrame(request);
  }, [player, duration_s]);
  const seek = (event) => {
    const box = frame.current.getBoundingClientRect();
    player.seek(((event.clientX - box.left) / box.width) * duration_s);
  };
  const step = (event) => {
    const by_s = { ArrowLeft: -0.25, ArrowRight: 0.25, Home: -Infinity, End: Infinity }[event.key];
    if (by_s === undefined) return;
    event.preventDefault();
    player.seek(player.place_s + by_s);
  };
  const seconds = Array.from({ length: Math.floor(duration_s) + 1 }, (_, second) => second);
  return html`<figure class="spectrogram">
    <div class="axis frequencies" aria-hidden="true">
      ${MARKS_HZ.map((hz) => html`<span key=${hz} ref=${place("bottom", mel(hz) / mel(TOP_HZ))}>${shown(hz)}</span>`)}
    </div>
    <div class="frame" ref=${frame} role="slider" tabindex="0" aria-label=${`Place in ${label}`} aria-valuemin="0" aria-valuemax=${duration_s.toFixed(2)} aria-valuenow="0" aria-valuetext="seconds"
      onPointerDown=${seek} onKeyDown=${step}>
      <img src=${url} alt=${`Spectrogram of ${label}: time from left to right, frequency upwards`} draggable="false" />
      <div class="playhead" ref=${head}></div>
    </div>
    <div class="axis times" aria-hidden="true">
      ${seconds.map((second) => html`<span key=${second} ref=${place("left", second / (duration_s || 1))}>${second} s</span>`)}
    </div>
  </figure>`;
}

// The policy of the page lets no style attribute in; a property set from a script is no attribute.
const place = (side, share) => (element) => element && element.style.setProperty(side, `${share * 100}%`);

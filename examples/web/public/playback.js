// A finished sentence that can be heard again. The word that is being said is marked with `aria-current`.

let stop = null; // what is being played

export function stopPlayback() {
  stop?.();
}

/** Gives a line a button that plays `samples`, 16-bit, in which its `words` are said. */
export function makePlayable(line, words, samples, sampleRate) {
  const characters = [...line.textContent]; // ranges of words count code points
  const texts = words.map(({ char_start, char_end }) => characters.slice(char_start, char_end).join(""));
  const spans = texts.map((text) => Object.assign(document.createElement("span"), { textContent: text.trimEnd() }));
  const button = Object.assign(document.createElement("button"), { type: "button", className: "play" });
  button.setAttribute("aria-label", `Play: ${line.textContent}`);
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    const isPlaying = button.getAttribute("aria-pressed") === "true";
    stopPlayback();
    if (!isPlaying) play(button, spans, words, bufferOf(samples, sampleRate));
  });
  line.setAttribute("aria-live", "off"); // it was read out when it came
  const pieces = spans.flatMap((span, place) => [span, texts[place].slice(span.textContent.length)]);
  line.replaceChildren(button, ...pieces);
}

function bufferOf(samples, sampleRate) {
  const buffer = new AudioBuffer({ length: samples.length, sampleRate });
  buffer.copyToChannel(Float32Array.from(samples, (sample) => sample / 32_768), 0);
  return buffer;
}

function play(button, spans, words, buffer) {
  const context = new AudioContext();
  const source = new AudioBufferSourceNode(context, { buffer });
  const began = context.currentTime;
  let frame = 0;

  function mark(seconds) {
    const current = words.findLastIndex(({ start, end }) => start <= seconds && seconds < end);
    for (const [place, span] of spans.entries()) {
      if (place !== current) span.removeAttribute("aria-current");
      else if (!span.hasAttribute("aria-current")) span.setAttribute("aria-current", "true");
    }
  }

  function follow() {
    mark(context.currentTime - began);
    frame = requestAnimationFrame(follow);
  }

  stop = () => {
    stop = source.onended = null;
    cancelAnimationFrame(frame);
    mark(Infinity);
    button.setAttribute("aria-pressed", "false");
    context.close();
  };
  source.onended = stop;
  source.connect(context.destination);
  source.start();
  button.setAttribute("aria-pressed", "true");
  follow();
}

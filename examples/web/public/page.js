import { Microphone } from "./microphone.js";
import { makePlayable, stopPlayback } from "./playback.js";
import { Recorded } from "./recorded.js";

const UNSENT_SECONDS = 10;
const LABELS = {
  idle: ["Start", "Press Start and speak."],
  asking: ["Start", "Asking for the microphone…"],
  loading: ["Stop", "Loading the model…"],
  listening: ["Stop", "Listening."],
  speech: ["Stop", "Hearing you."],
  finishing: ["Start", "Finishing…"],
};
const find = (id) => document.getElementById(id);
const [button, status, alarm, finals, partial] = ["button", "status", "alarm", "finals", "partial"].map(find);

let recording = null;

function show(state, sentence = LABELS[state][1]) {
  document.body.dataset.state = state;
  button.textContent = LABELS[state][0];
  button.disabled = state === "asking" || state === "finishing";
  status.textContent = sentence;
}

function complain(message) {
  alarm.textContent = message;
  alarm.hidden = message === "";
}

function showLevel(peak) {
  const share = peak > 0 ? Math.max(0, 1 + (20 * Math.log10(peak)) / 60) : 0; // 60 dB
  find("level").style.transform = `scaleX(${share})`;
}

function showPartial({ text, stable_text: stable }) {
  const isFirm = text.startsWith(stable);
  find("stable").textContent = isFirm ? stable : "";
  find("unstable").textContent = isFirm ? text.slice(stable.length) : text;
  partial.hidden = text === "";
  if (text !== "") find("hint").hidden = true;
  partial.scrollIntoView({ block: "nearest" });
}

/** The line of the text, if it has any. */
function addFinal({ text, language, problem }) {
  showPartial({ text: "", stable_text: "" });
  if (problem !== null) complain(`A sentence could not be transcribed: ${problem}`);
  if (text === "") return null;
  const line = document.createElement("p");
  line.dir = "auto";
  line.textContent = text;
  line.title = language ?? "";
  find("hint").hidden = true;
  finals.append(line);
  for (const id of ["copy", "clear"]) find(id).disabled = false;
  line.scrollIntoView({ block: "nearest" });
  return line;
}

async function post(path, token, body) {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(path, { method: "POST", headers, body });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

class Recording {
  #microphone;
  #recorded;
  #wordless = new Map(); // lines whose words may follow, with their samples, by the names of the utterances
  #token;
  #events;
  #unsent = [];
  #seq = 0;
  #sending = null;
  #isOver = false;

  static async begin() {
    const microphone = await Microphone.open();
    try {
      const { token } = await post("api/sessions", null, JSON.stringify({ sample_rate: microphone.sampleRate }));
      return new Recording(microphone, token);
    } catch (error) {
      await microphone.close();
      throw error;
    }
  }

  constructor(microphone, token) {
    this.#microphone = microphone;
    this.#recorded = new Recorded(microphone.sampleRate);
    this.#token = token;
    this.#events = new EventSource(`api/events?token=${token}`);
    const on = (name, take) => this.#events.addEventListener(name, ({ data }) => take(JSON.parse(data)));
    on("state", ({ state, model }) => (state === "listening" ? this.#listen(model) : show(state)));
    on("speech", ({ isSpeech }) => document.body.dataset.state !== "finishing" && show(isSpeech ? "speech" : "listening"));
    on("partial", showPartial);
    on("final", (final) => this.#addFinal(final));
    on("words", ({ id, words }) => this.#addWords(id, words));
    on("failed", ({ message }) => this.fail(message));
    on("done", () => this.#end());
    this.#events.onerror = () => this.fail("The connection to the server was lost. Is it still running?");
  }

  /** No more audio; what was said is still finished. */
  async stop() {
    if (document.body.dataset.state === "loading") return this.#end();
    show("finishing");
    await this.#microphone.close();
    try {
      await this.#sending;
      await post("api/finish", this.#token);
    } catch (error) {
      this.fail(error.message);
    }
  }

  fail(message) {
    if (this.#isOver) return;
    complain(message);
    this.#end();
  }

  #listen(model) {
    find("model").textContent = model ?? "";
    show("listening");
    const lost = () => this.fail("The microphone went away.");
    this.#microphone.start((pcm, peak) => this.#take(pcm, peak), lost);
  }

  #addFinal(final) {
    const line = addFinal(final);
    const samples = line === null || final.start === null ? null : this.#recorded.cut(final.start, final.seconds);
    if (samples !== null) this.#wordless.set(final.id, { line, samples });
  }

  #addWords(id, words) {
    const { line, samples } = this.#wordless.get(id) ?? {};
    this.#wordless.delete(id);
    if (words !== null && line?.isConnected) makePlayable(line, words, samples, this.#microphone.sampleRate);
  }

  #take(pcm, peak) {
    if (this.#isOver) return;
    this.#recorded.add(pcm);
    showLevel(document.body.dataset.state === "finishing" ? 0 : peak);
    this.#unsent.push(pcm);
    const seconds = (this.#unsent.length * pcm.byteLength) / 2 / this.#microphone.sampleRate;
    if (seconds > UNSENT_SECONDS) return this.fail("The recogniser cannot keep up with the microphone.");
    this.#sending ??= this.#send().finally(() => (this.#sending = null));
  }

  /** One request at a time, each with all that has come meanwhile: order and back pressure without a queue at the server. */
  async #send() {
    try {
      while (this.#unsent.length > 0 && !this.#isOver) {
        await post(`api/audio?seq=${this.#seq}`, this.#token, new Blob(this.#unsent.splice(0)));
        this.#seq += 1;
      }
    } catch (error) {
      this.fail(error instanceof TypeError ? "The connection to the server was lost. Is it still running?" : error.message);
    }
  }

  #end() {
    this.#isOver = true;
    this.#events.close();
    this.#microphone.close();
    recording = null;
    showLevel(0);
    showPartial({ text: "", stable_text: "" });
    show("idle");
  }
}

button.addEventListener("click", async () => {
  complain("");
  stopPlayback(); // the microphone would hear it
  if (recording !== null) return recording.stop();
  show("asking");
  try {
    recording = await Recording.begin();
  } catch (error) {
    complain(error.message);
    show("idle");
  }
});

find("clear").addEventListener("click", () => {
  stopPlayback();
  finals.replaceChildren();
  for (const id of ["copy", "clear"]) find(id).disabled = true;
  button.focus(); // it would be lost with the button that was pressed
});

find("copy").addEventListener("click", async () => {
  const text = [...finals.children].map((line) => line.textContent).join("\n");
  await navigator.clipboard.writeText(text).then(
    () => (status.textContent = "Copied."),
    () => complain("The browser does not let this page copy."),
  );
});

show("idle");

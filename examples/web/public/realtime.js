// The realtime door of qwen3-asr-mlx-serve, which is OpenAI's: audio and text over one WebSocket.

import { Microphone } from "./microphone.js";

const SAMPLE_RATE = 24_000; // of OpenAI
const UNSENT_BYTES = 2 * 10 * SAMPLE_RATE * (4 / 3); // ten seconds in base64
const ITEM = "conversation.item.input_audio_transcription";
const LABELS = {
  idle: ["Start", "Press Start and speak."],
  asking: ["Start", "Asking for the microphone…"],
  listening: ["Stop", "Listening."],
  finishing: ["Start", "Finishing…"],
};
const find = (id) => document.getElementById(id);

let session = null;

function show(state) {
  document.body.dataset.state = state;
  [find("button").textContent, find("status").textContent] = LABELS[state];
  find("button").disabled = state === "asking" || state === "finishing";
}

function complain(message) {
  find("alarm").textContent = message;
  find("alarm").hidden = message === "";
}

function base64(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer))); // a tenth of a second: few enough arguments
}

class Session {
  #microphone;
  #socket;
  #items = new Map(); // the text of each item without an outcome, by its id
  #committed = new Set();
  #isFinishing = false; // the last commit was sent
  #isAnswered = false; // and answered: events are, in their order

  static async begin(server, token) {
    return new Session(await Microphone.open({ sampleRate: SAMPLE_RATE }), server, token);
  }

  /** A page cannot set headers: the token is a subprotocol. */
  constructor(microphone, server, token) {
    this.#microphone = microphone;
    const protocols = ["realtime", ...(token === "" ? [] : [`openai-insecure-api-key.${token}`])];
    this.#socket = new WebSocket(`${server}/v1/realtime?intent=transcription`, protocols);
    this.#socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    this.#socket.onclose = () => this.#end("The server has closed the connection. Does it run, with --allow-origin and this token?");
  }

  /** No more audio; what was said is still finished. */
  async stop() {
    show("finishing");
    await this.#microphone.close();
    this.#isFinishing = true;
    this.#send("input_audio_buffer.commit");
    this.#send("session.update", { session: { type: "transcription" } }); // its answer comes behind that of the commit
  }

  #send(type, members) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type, ...members }));
  }

  #take(event) {
    const { type, item_id: id } = event;
    if (type === "session.created") this.#configure();
    if (type === "session.updated" && this.#isFinishing) this.#isAnswered = true;
    else if (type === "session.updated") this.#listen(event.session.audio.input);
    if (type === `${ITEM}.delta`) this.#items.set(id, (this.#items.get(id) ?? "") + event.delta);
    if (type === "input_audio_buffer.committed") this.#committed.add(id);
    if (type === `${ITEM}.completed`) this.#finish(id, event.transcript);
    if (type === `${ITEM}.failed`) this.#finish(id, "", `A sentence could not be transcribed: ${event.error.message}`);
    if (type === "error" && event.error.code !== "input_audio_buffer_commit_empty") complain(event.error.message);
    find("partial").textContent = [...this.#items.values()].join(" ");
    if (this.#isAnswered && this.#committed.size === 0) this.#end("");
  }

  #configure() {
    const input = { format: { type: "audio/pcm", rate: SAMPLE_RATE }, turn_detection: { type: "server_vad" } };
    this.#send("session.update", { session: { type: "transcription", audio: { input } } });
  }

  /** Without a detector at the server, Stop ends the one utterance. */
  #listen({ transcription, turn_detection: turns }) {
    find("model").textContent = transcription.model;
    if (turns === null) find("hint").textContent = "What you say appears here. Stop ends the sentence.";
    show("listening");
    this.#microphone.start((pcm) => this.#append(pcm), () => this.#end("The microphone went away."));
  }

  #append(pcm) {
    this.#send("input_audio_buffer.append", { audio: base64(pcm) });
    if (this.#socket.bufferedAmount > UNSENT_BYTES) this.#end("The server cannot keep up with the microphone.");
  }

  #finish(id, text, problem = "") {
    this.#items.delete(id);
    this.#committed.delete(id);
    if (problem !== "") complain(problem);
    if (text === "") return;
    find("hint").hidden = true;
    const line = Object.assign(document.createElement("p"), { dir: "auto", textContent: text });
    find("finals").append(line);
    line.scrollIntoView({ block: "nearest" });
  }

  #end(message) {
    if (message !== "") complain(message);
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#microphone.close();
    session = null;
    find("partial").textContent = "";
    show("idle");
  }
}

find("button").addEventListener("click", async () => {
  complain("");
  if (session !== null) return session.stop();
  show("asking");
  try {
    session = await Session.begin(find("server").value, find("token").value);
  } catch (error) {
    complain(error.message);
    show("idle");
  }
});

show("idle");

// The microphone as 16-bit PCM, at the rate that the browser records with: the bridge resamples, better than a page would.
// Where the receiver knows few rates, `sampleRate` names one.

const PATIENCE_MS = 500; // with an audio thread that no longer answers
const SPEECH_AS_IT_IS = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };

const REFUSALS = {
  NotAllowedError: "The microphone is not allowed for this page. Allow it in the address bar, then start again.",
  NotFoundError: "No microphone was found. Connect one, then start again.",
  NotReadableError: "The microphone cannot be read. Another program may use it.",
};

export class Microphone {
  #context;
  #source;
  #tracks;
  #recorder = null;

  /** Throws an Error whose message is for the user. */
  static async open({ sampleRate } = {}) {
    const devices = navigator.mediaDevices;
    if (devices === undefined) throw new Error("The browser gives the microphone only to pages of this machine: open 127.0.0.1.");
    const media = await devices.getUserMedia({ audio: SPEECH_AS_IT_IS }).catch((error) => {
      throw new Error(REFUSALS[error.name] ?? `The microphone cannot be used (${error.name}).`);
    });
    const context = new AudioContext({ sampleRate });
    const microphone = new Microphone(context, media);
    try {
      await context.audioWorklet.addModule("recorder.js");
    } catch {
      await microphone.close();
      throw new Error("The recorder of this page could not be loaded. Is the server still running?");
    }
    return microphone;
  }

  constructor(context, media) {
    this.#context = context;
    this.#tracks = media.getTracks();
    this.#source = context.createMediaStreamSource(media);
  }

  get sampleRate() {
    return this.#context.sampleRate;
  }

  /** From now on; `onAudio(pcm, peak)` ten times a second, `onLost()` where the device goes away. */
  start(onAudio, onLost) {
    this.#recorder = new AudioWorkletNode(this.#context, "recorder", { numberOfOutputs: 0 });
    this.#recorder.port.onmessage = ({ data }) => onAudio(data.pcm, data.peak);
    this.#source.connect(this.#recorder);
    for (const track of this.#tracks) track.onended = onLost;
  }

  /** When this resolves `onAudio` has had everything. */
  async close() {
    for (const track of this.#tracks) track.onended = null;
    if (this.#recorder !== null) await this.#rest();
    for (const track of this.#tracks) track.stop();
    if (this.#context.state !== "closed") await this.#context.close();
  }

  #rest() {
    const { port } = this.#recorder;
    const last = new Promise((resolve) => port.addEventListener("message", ({ data }) => data.isLast && resolve()));
    port.postMessage("rest");
    return Promise.race([last, new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))]);
  }
}

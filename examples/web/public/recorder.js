// In the audio thread: gathers a tenth of a second and hands it over as 16-bit samples, with its peak. Any message asks for the rest.

const SECONDS = 0.1;

class Recorder extends AudioWorkletProcessor {
  #samples = new Int16Array(Math.round(sampleRate * SECONDS));
  #count = 0;
  #peak = 0;

  constructor() {
    super();
    this.port.onmessage = () => this.#handOver(true);
  }

  process([channels]) {
    const length = channels[0]?.length ?? 0;
    for (let at = 0; at < length; at += 1) this.#add(channels.reduce((sum, each) => sum + each[at], 0) / channels.length);
    return true;
  }

  #add(sample) {
    const held = Math.max(-1, Math.min(1, sample));
    this.#peak = Math.max(this.#peak, Math.abs(held));
    this.#samples[this.#count] = Math.round(held * 32767);
    this.#count += 1;
    if (this.#count === this.#samples.length) this.#handOver(false);
  }

  #handOver(isLast) {
    const pcm = this.#samples.slice(0, this.#count).buffer;
    this.port.postMessage({ pcm, peak: this.#peak, isLast }, [pcm]);
    this.#count = 0;
    this.#peak = 0;
  }
}

registerProcessor("recorder", Recorder);

// What the microphone has recorded lately, so that a sentence can be heard again once its text is there.

const KEPT_SECONDS = 300; // an utterance and the wait for its text are shorter

export class Recorded {
  #sampleRate;
  #blocks = []; // Int16Array
  #start = 0; // samples that came before the first block
  #end = 0;

  constructor(sampleRate) {
    this.#sampleRate = sampleRate;
  }

  add(pcm) {
    const block = new Int16Array(pcm);
    this.#blocks.push(block);
    this.#end += block.length;
    while (this.#end - this.#start > KEPT_SECONDS * this.#sampleRate) this.#start += this.#blocks.shift().length;
  }

  /** Samples from `start` on, in seconds from the beginning; null if they are not all kept. */
  cut(start, seconds) {
    const first = Math.round(start * this.#sampleRate);
    const last = Math.min(this.#end, first + Math.round(seconds * this.#sampleRate));
    if (first < this.#start || first >= last) return null;
    const samples = new Int16Array(last - first);
    let at = this.#start;
    for (const block of this.#blocks) {
      const part = block.subarray(Math.max(0, first - at), Math.max(0, last - at));
      if (part.length > 0) samples.set(part, Math.max(0, at - first));
      at += block.length;
    }
    return samples;
  }
}

// When somebody speaks, by loudness alone: good enough for one person at a quiet desk, and short enough to read. Where it
// matters take a model, as silero-vad.

const FRAME_MS = 20;
const ONSET_MS = 60; // so long must it be loud: a click is shorter
const PRE_ROLL_MS = 300; // what came before the onset belongs to the word
export const PAUSE_MS = 200; // after so much quiet the final is computed ahead
export const HANG_OVER_MS = 600; // so long must it be quiet: a breath within a sentence is shorter; a final comes later by it
const ABOVE_NOISE_DB = 10;
const HYSTERESIS_DB = 3;
const LEAST_DB = -50; // nothing quieter is speech
const SILENCE_DB = -100;
const NOISE_RISE_DB = 0.02; // a frame: 1 dB a second, so that a fan that starts is noise after a while

/** dB below a square wave at full scale. */
export function level(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return Math.max(SILENCE_DB, 10 * Math.log10(sum / samples.length) - 20 * Math.log10(32_768));
}

function joined(frames) {
  const whole = new Int16Array(frames.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const frame of frames) {
    whole.set(frame, at);
    at += frame.length;
  }
  return whole;
}

export class Vad {
  #frame; // samples of one
  #rest = new Int16Array(0);
  #before = []; // frames ahead of a possible onset
  #loud = 0; // frames in a row
  #quiet = 0;
  #noise = -60;
  #count = 0; // samples of whole frames
  isSpeech = false;

  constructor(sampleRate) {
    this.#frame = Math.round((sampleRate * FRAME_MS) / 1000);
  }

  /** Whether so much quiet, and nothing else, is at the end of an utterance. */
  get isPause() {
    return this.isSpeech && this.#quiet >= PAUSE_MS / FRAME_MS;
  }

  /**
   * Takes 16-bit samples and yields what to do: `{ speech: Int16Array, start }`, of an utterance, `start` samples behind the
   * first that was taken; `{ pause: true }`, it may be over; or `{ end: true }`, it is: quiet alone has come since the pause.
   */
  *feed(samples) {
    const all = joined([this.#rest, samples]);
    const whole = all.length - (all.length % this.#frame);
    let spoken = [];
    for (let at = 0; at < whole; at += this.#frame) {
      const frame = all.subarray(at, at + this.#frame);
      const [wasSpeech, wasPause] = [this.isSpeech, this.isPause];
      this.#count += frame.length;
      this.#judge(level(frame));
      if (this.isSpeech || wasSpeech) spoken.push(...this.#before.splice(0), frame);
      else this.#remember(frame);
      const isEnd = wasSpeech && !this.isSpeech;
      if (isEnd || (this.isPause && !wasPause)) {
        yield this.#speech(spoken);
        yield isEnd ? { end: true } : { pause: true };
        spoken = [];
      }
    }
    this.#rest = all.slice(whole);
    if (spoken.length > 0) yield this.#speech(spoken);
  }

  /** Frames up to the last one that was taken. */
  #speech(frames) {
    const speech = joined(frames);
    return { speech, start: this.#count - speech.length };
  }

  #judge(loudness) {
    const threshold = Math.max(LEAST_DB, this.#noise + ABOVE_NOISE_DB) - (this.isSpeech ? HYSTERESIS_DB : 0);
    this.#loud = loudness > threshold ? this.#loud + 1 : 0;
    this.#quiet = loudness > threshold ? 0 : this.#quiet + 1;
    this.#noise = Math.max(SILENCE_DB, Math.min(loudness, this.#noise + NOISE_RISE_DB));
    if (!this.isSpeech) this.isSpeech = this.#loud >= ONSET_MS / FRAME_MS;
    else this.isSpeech = this.#quiet < HANG_OVER_MS / FRAME_MS;
  }

  #remember(frame) {
    this.#before.push(frame);
    if (this.#before.length > PRE_ROLL_MS / FRAME_MS) this.#before.shift();
  }
}

// Whether a bridge that was lost may be started again.

import { tooManyLosses } from "./errors.mjs";

const LOSSES = 5;
const WINDOW_MS = 180_000;
const ENGINE_LOST = 4;
const ENGINE_PAUSE_MS = 1_000;

export class RestartRule {
  #losses = []; // when
  #now;

  /** The milliseconds to wait before the next start. */
  pause = 0;

  constructor(now = () => performance.now()) {
    this.#now = now;
  }

  forget() {
    this.#losses = [];
    this.pause = 0;
  }

  /** The error that every later request has; null where the next one may start it again. */
  lost(error) {
    const now = this.#now();
    this.#losses = [...this.#losses.filter((when) => now - when < WINDOW_MS), now];
    this.pause = error.exit?.code === ENGINE_LOST ? ENGINE_PAUSE_MS : 0;
    if (!error.retryable) return error;
    return this.#losses.length > LOSSES ? tooManyLosses(this.#losses.length, WINDOW_MS, error) : null;
  }
}

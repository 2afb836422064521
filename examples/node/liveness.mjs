// Tells a process that is busy from one that hangs. Counts ticks and not time: where this process was suspended, none went by.

import { bounded } from "./times.mjs";

const TICKS = 20; // in `milliseconds`

export class Liveness {
  #ticks = { unheard: 0, untaken: 0 };
  #seen = { read: 0, taken: 0 };
  #timer;

  /**
   * `look()` gives `waits`, whether a reply is waited for; `unwritten`, `bytesTaken`, `bytesRead`. `ping()` is called after
   * half of `milliseconds` without a sound, `hung()` after the whole, or where nothing was taken for so long.
   */
  constructor(milliseconds, look, { ping, hung }) {
    this.#timer = setInterval(() => {
      this.#count(look());
      if (this.#ticks.unheard === TICKS / 2) ping();
      if (Math.max(this.#ticks.unheard, this.#ticks.untaken) > TICKS) hung();
    }, bounded(milliseconds / TICKS));
    this.#timer.unref();
  }

  stop() {
    clearInterval(this.#timer);
  }

  #count({ waits, unwritten, bytesRead, bytesTaken }) {
    const { unheard, untaken } = this.#ticks;
    this.#ticks.unheard = waits && bytesRead === this.#seen.read ? unheard + 1 : 0;
    this.#ticks.untaken = unwritten > 0 && bytesTaken === this.#seen.taken ? untaken + 1 : 0;
    this.#seen = { read: bytesRead, taken: bytesTaken };
  }
}

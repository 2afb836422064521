// What comes unasked, for whoever iterates over it. Adding never waits, and what is unread is bounded.

const CAPACITY = 1024;

/** Whether the newer one makes the older worthless. */
function replaces(newer, older) {
  if (newer.type !== older.type) return false;
  if (newer.type === "progress") return newer.request_id === older.request_id && newer.stage === older.stage;
  const sameUtterance = newer.stream_id === older.stream_id && newer.utterance_id === older.utterance_id;
  return newer.type === "partial_result" && sameUtterance;
}

/** The text of a partial that replaces an unread one has changed from the earlier of the two places. */
function withChangeOf(older, event) {
  if (event.type !== "partial_result" || event.changed_from === undefined) return event;
  return { ...event, changed_from: Math.min(event.changed_from, older.changed_from ?? 0) };
}

export class EventQueue {
  #unread = [];
  #dropped = 0;
  #readers = [];
  #ended = false;

  add(event) {
    const reader = this.#readers.shift();
    if (reader !== undefined) reader({ value: event, done: false });
    else if (!this.#ended) this.#keep(event);
  }

  /** What is unread can still be read. */
  end() {
    this.#ended = true;
    for (const reader of this.#readers.splice(0)) reader({ value: undefined, done: true });
  }

  [Symbol.asyncIterator]() {
    // Leaving a loop ends that loop, not the queue.
    return { next: () => this.#next(), return: async () => ({ value: undefined, done: true }) };
  }

  #keep(event) {
    const place = this.#unread.findLastIndex((each) => replaces(event, each));
    const [older] = place >= 0 ? this.#unread.splice(place, 1) : [];
    this.#unread.push(older === undefined ? event : withChangeOf(older, event));
    if (this.#unread.length <= CAPACITY) return;
    this.#unread.shift();
    this.#dropped += 1;
  }

  #next() {
    if (this.#dropped > 0) {
      this.#unread.unshift({ type: "events_lost", count: this.#dropped });
      this.#dropped = 0;
    }
    if (this.#unread.length > 0) return Promise.resolve({ value: this.#unread.shift(), done: false });
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => this.#readers.push(resolve));
  }
}

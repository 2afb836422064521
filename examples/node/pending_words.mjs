// Finals that one process has delivered with `words_pending`, whose `words_ready` is still to come.

export class PendingWords {
  #finals = new Map(); // by their jobs

  /** Notes a line of the process. */
  take(line) {
    if (line.type === "words_ready") this.#finals.delete(line.job);
    if (line.type !== "realtime_batch_final") return;
    for (const { job, stream_id, utterance_id, words_pending } of line.items ?? []) {
      if (words_pending) this.#finals.set(job, { job, stream_id, utterance_id });
    }
  }

  /** The process is gone: the events in place of those that it owes. */
  lose({ code, message }) {
    const finals = [...this.#finals.values()];
    this.#finals.clear();
    return finals.map((final) => ({ type: "words_ready", event: true, n: 0, ...final, warnings: [], error: { code, message } }));
  }
}

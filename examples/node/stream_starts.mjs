// Which `start_stream` was the last of its stream: the app may have begun it anew.

const nameOf = (message) => String(message.stream_id ?? "default");

export class StreamStarts {
  #last = new Map(); // replies that nobody has taken, by the names of the streams

  sent(message, reply) {
    if (message.type !== "start_stream") return;
    this.#last.set(nameOf(message), reply);
    reply.catch(() => this.take(message, reply));
  }

  /** Whether it was the last of a stream. It is forgotten. */
  take(message, reply) {
    return this.#last.get(nameOf(message)) === reply && this.#last.delete(nameOf(message));
  }
}

// Which `start_stream` have begun a stream, since the app last began it anew.

const nameOf = (message) => String(message.stream_id ?? "default");

export class StreamStarts {
  #replies = new Map(); // those that nobody has taken, by the names of the streams

  sent(message, reply) {
    if (message.type !== "start_stream") return;
    const name = nameOf(message);
    if (message.restart === true || !this.#replies.has(name)) this.#replies.set(name, new Set());
    this.#replies.get(name).add(reply);
    reply.catch(() => this.take(message, reply));
  }

  /** Whether no later one has begun its stream anew. It is forgotten. */
  take(message, reply) {
    const replies = this.#replies.get(nameOf(message));
    const was = replies?.delete(reply) ?? false;
    if (replies?.size === 0) this.#replies.delete(nameOf(message));
    return was;
  }
}

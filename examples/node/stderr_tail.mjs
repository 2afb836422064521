// The end of what a process says to people, and each line of it for whoever wants it.

import { Lines } from "./lines.mjs";

const TAIL_BYTES = 64 * 1024;
const LONGEST_LINE = 64 * 1024;

export class StderrTail {
  #blocks = [];
  #length = 0;
  #lines = new Lines(LONGEST_LINE);
  #onLine;

  constructor(onLine) {
    this.#onLine = onLine;
  }

  get text() {
    return Buffer.concat(this.#blocks).subarray(-TAIL_BYTES).toString("utf8");
  }

  push(block) {
    this.#blocks.push(block);
    this.#length += block.length;
    while (this.#length - this.#blocks[0].length >= TAIL_BYTES) this.#length -= this.#blocks.shift().length;
    if (this.#onLine !== undefined) this.#handOn(block);
  }

  #handOn(block) {
    for (const line of this.#lines.push(block)) this.#onLine(line.toString("utf8"));
    if (this.#lines.isTooLong) this.#lines = new Lines(LONGEST_LINE); // what is no line is not handed on
  }
}

// Bytes in blocks of any size, lines out. Only the byte 0x0A separates: a block may end within a line, or a character.

export const encode = (message) => Buffer.from(`${JSON.stringify(message)}\n`);

export class Lines {
  #pieces = []; // of the line that has not ended
  #length = 0;
  #longest;

  constructor(longest) {
    this.#longest = longest;
  }

  /** Whether a line has begun that has not ended. */
  get hasRest() {
    return this.#length > 0;
  }

  /** Whether a line was longer than it may be; nothing comes out any more. */
  get isTooLong() {
    return this.#length > this.#longest;
  }

  /** The lines that end in this block, without their newline. */
  *push(block) {
    let start = 0;
    for (let end = block.indexOf(10); end >= 0; end = block.indexOf(10, start)) {
      this.#keep(block.subarray(start, end));
      if (this.isTooLong) return;
      start = end + 1;
      yield this.#take();
    }
    this.#keep(block.subarray(start));
  }

  #take() {
    const line = Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#length = 0;
    return line;
  }

  #keep(piece) {
    this.#length += piece.length;
    if (this.isTooLong) this.#pieces = [];
    else this.#pieces.push(piece);
  }
}

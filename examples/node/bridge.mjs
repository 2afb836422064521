// A client of the bridge without packages: starts the process, writes requests, reads lines, and never leaves it behind.
// Needs Node 20 or later. docs/protocol.md says what the lines mean.

import { spawn } from "node:child_process";
import { once } from "node:events";

const STDERR_BYTES = 8192; // of the end of stderr, kept for the report of a failure

export class Bridge {
  #child;
  #partial = []; // pieces of a line that has not ended
  #lines = []; // whole lines that nobody has read
  #readers = []; // whoever waits for a line
  #stderr = "";
  #ended = false; // the output has
  #inputLost = new AbortController(); // the process no longer reads: what it said stays to be read

  constructor(argv) {
    this.#child = spawn(argv[0], argv.slice(1), { stdio: ["pipe", "pipe", "pipe"] });
    this.exit = new Promise((resolve, reject) => {
      this.#child.on("error", reject); // it could not be started
      this.#child.on("close", (code, signal) => resolve({ code, signal }));
    });
    this.exit.then(
      () => this.#inputLost.abort(),
      () => {
        this.#inputLost.abort();
        this.#end();
      },
    );
    // Both outputs are read all the time: a process whose pipes are full stands still.
    this.#child.stdout.on("data", (bytes) => this.#take(bytes));
    this.#child.stdout.on("end", () => this.#end());
    this.#child.stderr.setEncoding("utf8");
    this.#child.stderr.on("data", (text) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_BYTES);
    });
    // Without a listener, EPIPE would end this process.
    this.#child.stdin.on("error", () => this.#inputLost.abort());
  }

  get stderr() {
    return this.#stderr;
  }

  /** Send a message, or bytes that are to be a line. Resolves when more may be written. */
  async send(message) {
    const line = Buffer.isBuffer(message) ? message : Buffer.from(JSON.stringify(message));
    await this.write(Buffer.concat([line, Buffer.from("\n")]));
  }

  async write(bytes) {
    const { signal } = this.#inputLost;
    if (signal.aborted || this.#child.stdin.writableEnded) return;
    if (this.#child.stdin.write(bytes)) return;
    await once(this.#child.stdin, "drain", { signal }).catch(() => {});
  }

  /** The next message, or null after the last one. Fails if none comes in time. */
  async read(milliseconds = 60_000) {
    const line = await this.#nextLine(milliseconds);
    return line === null ? null : JSON.parse(line);
  }

  /** Say that no more requests will come. */
  end() {
    this.#child.stdin.end();
  }

  signal(name) {
    this.#child.kill(name);
  }

  kill() {
    this.#child.kill("SIGKILL");
  }

  #take(bytes) {
    // A block may end anywhere, also within a line: only the newline byte separates.
    let start = 0;
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
      this.#partial.push(bytes.subarray(start, end));
      this.#give(Buffer.concat(this.#partial).toString("utf8"));
      this.#partial = [];
      start = end + 1;
    }
    if (start < bytes.length) this.#partial.push(bytes.subarray(start));
  }

  #give(line) {
    const reader = this.#readers.shift();
    if (reader) reader.resolve(line);
    else this.#lines.push(line);
  }

  #end() {
    this.#ended = true;
    for (const reader of this.#readers.splice(0)) reader.resolve(null);
  }

  #nextLine(milliseconds) {
    if (this.#lines.length > 0) return Promise.resolve(this.#lines.shift());
    if (this.#ended) return Promise.resolve(null);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#readers.splice(this.#readers.indexOf(reader), 1);
        reject(new Error(`no line came within ${milliseconds} ms`));
      }, milliseconds);
      const reader = {
        resolve: (line) => {
          clearTimeout(timer);
          resolve(line);
        },
      };
      this.#readers.push(reader);
    });
  }
}

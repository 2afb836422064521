// The process itself: three pipes that are served all the time, and an end that always comes. Knows lines, not messages.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { exitOf, noFolder, startError } from "./errors.mjs";
import { Lines } from "./lines.mjs";
import { StderrTail } from "./stderr_tail.mjs";
import { bounded } from "./times.mjs";

export const GRACE_MS = 2_000;
const UNWRITTEN_BYTES = 1024 * 1024;
const LINE_BYTES = 64 * 1024 * 1024;
const PARENT = "--parent-pid";

const running = new Set();
process.on("exit", () => running.forEach((each) => each.signal("SIGKILL")));

function isThere(program, env) {
  if (program.includes("/")) return existsSync(program);
  return (env.PATH ?? "").split(delimiter).some((folder) => existsSync(join(folder, program)));
}

/** Named before it starts: where this process dies early, the bridge sees only whoever adopts it. */
function withParent(argv) {
  const isNamed = argv.some((word) => word === PARENT || word.startsWith(`${PARENT}=`));
  return isNamed ? argv : [...argv, PARENT, String(process.pid)];
}

export class BridgeProcess {
  #child;
  #handlers;
  #lines = new Lines(LINE_BYTES);
  #stderr;
  #waiting = []; // until more may be written
  /** Whether what is written may still be read. */
  takesInput = true;

  /** How it ended: code, signal, name. */
  exit = null;
  /** Resolves to `exit` when its outputs were read to their end; never rejects. */
  ended;
  bytesRead = 0;
  /** Of what was written, by the pipe. */
  bytesTaken = 0;

  /**
   * Handlers: `onLine(bytes)`; `onTooLong()`, after which no line comes; `onPipeClosed()`: it closed its input or output,
   * and may live on. A BridgeError tells why the process could not be started.
   */
  static async start({ bridge, arguments: argv = [], env = process.env, cwd, onStderr }, handlers) {
    try {
      // A process group of its own: Ctrl-C in a terminal is for the app, which decides what becomes of the bridge.
      const child = spawn(bridge, withParent(argv), { env, cwd, detached: true, stdio: ["pipe", "pipe", "pipe"] });
      await new Promise((resolve, reject) => child.once("spawn", resolve).once("error", reject));
      return new BridgeProcess(child, handlers, onStderr);
    } catch (error) {
      if (cwd !== undefined && !existsSync(cwd)) throw noFolder(cwd, error);
      throw startError(bridge, error, isThere(bridge, env));
    }
  }

  /** Of a child that has just been spawned. */
  constructor(child, handlers, onStderr) {
    this.#child = child;
    this.#handlers = handlers;
    this.#stderr = new StderrTail(onStderr);
    this.ended = this.#end();
    running.add(this);
    this.#servePipes(child);
  }

  get pid() {
    return this.#child.pid;
  }

  /** The end of it. */
  get stderr() {
    return this.#stderr.text;
  }

  get isAlive() {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Whether its output ended within a line. */
  get endsWithinLine() {
    return this.#lines.hasRest;
  }

  /** Bytes that the pipe has not taken yet. */
  get unwritten() {
    return this.takesInput ? this.#child.stdin.writableLength : 0;
  }

  /** What a process no longer reads is thrown away; `ended` tells. */
  write(bytes) {
    if (!this.takesInput || this.#child.stdin.writableEnded) return;
    this.#child.stdin.write(bytes, (error) => {
      if (error) return;
      this.bytesTaken += bytes.length;
      if (this.unwritten < UNWRITTEN_BYTES) this.#makeRoom();
    });
  }

  /** Resolves when there is room for more, or nothing can be written any more. */
  room() {
    if (this.unwritten < UNWRITTEN_BYTES) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  endInput() {
    this.#child.stdin.end();
  }

  /** To its process group. */
  signal(name) {
    if (this.isAlive) this.#signalGroup(name);
  }

  /** Resolves to whether it ended in this time. */
  async endsWithin(milliseconds) {
    const patience = new AbortController();
    const late = sleep(bounded(milliseconds), false, { signal: patience.signal }).catch(() => false);
    const isOver = await Promise.race([this.ended.then(() => true), late]);
    patience.abort();
    return isOver;
  }

  /** Wait so long for its end; then SIGTERM; then SIGKILL. */
  async terminate(milliseconds) {
    if (await this.endsWithin(milliseconds)) return;
    this.signal("SIGTERM");
    if (await this.endsWithin(GRACE_MS)) return;
    this.signal("SIGKILL");
    await this.ended;
  }

  #servePipes({ stdin, stdout, stderr }) {
    stdout.on("data", (block) => this.#read(block));
    stdout.on("end", () => this.#handlers.onPipeClosed?.());
    stderr.on("data", (block) => this.#stderr.push(block));
    // Without listeners, an error of a pipe, EPIPE above all, would end this process.
    stdin.on("error", () => this.#inputLost());
    for (const pipe of [this.#child, stdout, stderr]) pipe.on("error", () => {});
  }

  #read(block) {
    this.bytesRead += block.length;
    if (this.#lines.isTooLong) return;
    for (const line of this.#lines.push(block)) this.#handlers.onLine(line);
    if (this.#lines.isTooLong) this.#handlers.onTooLong?.();
  }

  async #end() {
    const closed = new Promise((resolve) => this.#child.once("close", resolve));
    const [code, signal] = await new Promise((resolve) => this.#child.once("exit", (...how) => resolve(how)));
    running.delete(this);
    this.#signalGroup("SIGKILL"); // at once: later its number may be that of another group
    // What it started may have left the group and hold its pipes open.
    const patience = setTimeout(() => this.#closePipes(), GRACE_MS);
    await closed;
    clearTimeout(patience);
    this.exit = exitOf(code, signal);
    this.takesInput = false;
    this.#makeRoom();
    return this.exit;
  }

  #closePipes() {
    this.#child.stdout.destroy();
    this.#child.stderr.destroy();
  }

  #signalGroup(name) {
    try {
      process.kill(-this.pid, name);
    } catch {
      // nobody is left in it
    }
  }

  #inputLost() {
    if (!this.takesInput) return;
    this.takesInput = false;
    this.#makeRoom();
    this.#handlers.onPipeClosed?.();
  }

  #makeRoom() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

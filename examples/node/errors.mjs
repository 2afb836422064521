// What can go wrong between an app and the bridge; docs/clients.md is the list.

const EXIT_NAMES = new Map([
  [0, "done"],
  [1, "internal_error"],
  [2, "environment"],
  [4, "engine_lost"],
  [5, "parent_gone"],
  [126, "not_executable"],
  [127, "not_found"],
  [130, "interrupted"],
  [143, "terminated"],
]);
const FINAL_EXITS = new Set([0, 2, 5, 126, 127, 130, 143]); // after which starting it again would not help
const NO_PROGRAM = new Set(["ENOENT", "EACCES", "EPERM", "ENOEXEC", "ENOTDIR"]);
const STDERR_LINES = 20;

export class BridgeError extends Error {
  /** `details`, as fits the code: cause, exit, stderr, wireCode, data, fatalCode, position. */
  constructor(code, message, retryable = false, { cause, ...details } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "BridgeError";
    this.code = code;
    this.retryable = retryable;
    this.exit = null;
    this.stderr = [];
    Object.assign(this, details);
  }

  /** Add how the process ended and what it said to people. */
  endedBy(exit, stderr) {
    this.exit = exit;
    const said = stderr.trimEnd();
    this.stderr = said === "" ? [] : said.split("\n").slice(-STDERR_LINES);
    return this;
  }
}

/** How a process ended; a signal has its own name. */
export function exitOf(code, signal) {
  return { code, signal, name: signal ?? EXIT_NAMES.get(code) ?? "unknown" };
}

/** Why the process could not be started; `exists` tells whether there is such a file. */
export function startError(program, cause, exists) {
  if (cause.code === "ENOENT" && !exists) {
    return new BridgeError("bridge_not_found", `The speech bridge was not found at ${program}.`, false, { cause });
  }
  if (NO_PROGRAM.has(cause.code)) {
    const message = `The speech bridge at ${program} is not a program that can be run.`;
    return new BridgeError("bridge_not_executable", message, false, { cause });
  }
  const message = `The speech bridge could not be started (${cause.code ?? cause.message}).`;
  return new BridgeError("bridge_start_failed", message, false, { cause });
}

/** Where the folder to start it in is not there. */
export function noFolder(cwd, cause) {
  const message = `The speech bridge could not be started in the folder ${cwd}.`;
  return new BridgeError("bridge_start_failed", message, false, { cause });
}

export function exited(exit) {
  const how = exit.signal === null ? `exit code ${exit.code}, ${exit.name}` : exit.name;
  return new BridgeError("bridge_exited", `The speech bridge ended unexpectedly (${how}).`, !FINAL_EXITS.has(exit.code));
}

export function fatal(line, exit) {
  const retryable = line.retryable === true || !FINAL_EXITS.has(exit.code);
  return new BridgeError("bridge_fatal", String(line.message), retryable, { fatalCode: line.code });
}

export function notOpened(milliseconds) {
  return new BridgeError("bridge_hung", `The speech bridge did not start within ${milliseconds / 1000} seconds.`, true);
}

export function hung(milliseconds) {
  const message = `The speech bridge did not answer for ${milliseconds / 1000} seconds and was ended.`;
  return new BridgeError("bridge_hung", message, true);
}

export function pipeClosed() {
  return new BridgeError("bridge_pipe_closed", "The speech bridge stopped listening or speaking and was ended.", true);
}

/** `position`: the number of the line, from 1. */
export function nonsense(problem, position) {
  const message = `The speech bridge said something that is not of its protocol (${problem}).`;
  return new BridgeError("protocol_error", message, true, { position });
}

export function unsupported(protocol) {
  const message = `The speech bridge is of another version than this app: it does not speak ${protocol}.`;
  return new BridgeError("protocol_unsupported", message);
}

export function tooManyLosses(count, milliseconds, cause) {
  const message = `The speech bridge failed ${count} times in ${milliseconds / 1000} seconds and is not started again.`;
  const { exit, stderr } = cause;
  return new BridgeError("restart_limit", message, false, { cause, exit, stderr });
}

export function closed() {
  return new BridgeError("bridge_closed", "The speech bridge was stopped.");
}

export function timedOut(type, milliseconds) {
  const message = `The speech bridge did not answer ${type} within ${milliseconds / 1000} seconds.`;
  return new BridgeError("request_timeout", message, true);
}

/** Of a reply `error`, whose message is for people. */
export function refused({ code: wireCode, message, retryable, data = {} }) {
  return new BridgeError("request_failed", String(message), retryable === true, { wireCode, data });
}

/** What the bridge would answer. */
export function lineTooLong(type, limit) {
  const message = `the request ${type} is longer than ${limit} bytes`;
  return refused({ code: "line_too_long", message, retryable: false, data: { limit } });
}

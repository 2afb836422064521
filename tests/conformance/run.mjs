// Plays scenario files against the bridge and prints TAP.
//   node run.mjs --commands commands.json --speech speech.wav scenario.json...
// commands.json: {"<engine>": ["program", "argument", ...]}; a scenario whose engine is not in it is skipped.
// tests/scenarios/README.md says what a scenario may hold.

import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { BridgeProcess } from "../../examples/node/bridge_process.mjs";

const LINE_MS = 120_000;

function filled(value, speech) {
  if (Array.isArray(value)) return value.map((each) => filled(each, speech));
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, filled(each, speech)]));
  }
  if (typeof value !== "string") return value;
  const pcm = /^\$pcm:(\d+)$/.exec(value);
  if (pcm) return Buffer.alloc(2 * Number(pcm[1])).toString("base64");
  if (value === "$minute") return join(dirname(speech), "minute.wav");
  return value === "$speech" ? speech : value;
}

function numbered(message, n) {
  return Object.fromEntries(Object.entries(message).map(([name, value]) => [name, value === "$n" ? n : value]));
}

/** What does not fit, as a path and a reason, or null. Members that are not expected are allowed. */
function mismatch(expected, actual, path = "$") {
  if (expected === "…") return actual === undefined ? `${path}: missing` : null;
  if (expected === "$absent") return actual === undefined ? null : `${path}: there`;
  if (actual === undefined) return `${path}: missing`;
  if (Array.isArray(expected)) {
    if (!Array.isArray(actual) || actual.length !== expected.length) return `${path}: another list`;
    return first(expected.map((each, place) => mismatch(each, actual[place], `${path}[${place}]`)));
  }
  if (expected !== null && typeof expected === "object") {
    if (actual === null || typeof actual !== "object" || Array.isArray(actual)) return `${path}: no object`;
    return first(Object.entries(expected).map(([name, each]) => mismatch(each, actual[name], `${path}.${name}`)));
  }
  return isDeepStrictEqual(expected, actual)
    ? null
    : `${path}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`;
}

const first = (problems) => problems.find((problem) => problem !== null) ?? null;

/** The process as the scenarios see it: lines to write, and one to read at a time. */
class Player {
  #process;
  #lines = []; // that nobody has read
  #reader = null;

  static async start([bridge, ...argv]) {
    const player = new Player();
    player.#process = await BridgeProcess.start({ bridge, arguments: argv }, { onLine: (bytes) => player.#give(bytes) });
    player.#process.ended.then(() => player.#give(null));
    return player;
  }

  get stderr() {
    return this.#process.stderr;
  }

  async send(bytes) {
    this.#process.write(bytes);
    await this.#process.room();
  }

  /** The next line, or null after the last one. */
  async read() {
    if (this.#lines.length > 0) return this.#lines.shift();
    let timer;
    const line = new Promise((resolve, reject) => {
      this.#reader = resolve;
      timer = setTimeout(() => reject(new Error(`no line came within ${LINE_MS} ms`)), LINE_MS);
    });
    return line.finally(() => clearTimeout(timer));
  }

  async nextLine() {
    const line = await this.read();
    if (line === null) throw new Error("the output has ended");
    return line;
  }

  end() {
    this.#process.endInput();
  }

  signal(name) {
    this.#process.signal(name);
  }

  get ended() {
    return this.#process.ended;
  }

  #give(bytes) {
    const line = bytes === null ? null : JSON.parse(bytes.toString("utf8"));
    if (this.#reader === null) this.#lines.push(line);
    else this.#reader(line);
    this.#reader = null;
  }
}

async function expectInAnyOrder(bridge, expected) {
  const open = [...expected];
  while (open.length > 0) {
    const line = await bridge.nextLine();
    const place = open.findIndex((each) => mismatch(each, line) === null);
    if (place < 0) throw new Error(`nothing expected fits a line of type ${line.type}: ${mismatch(open[0], line)}`);
    open.splice(place, 1);
  }
}

async function expectExit(bridge, expected) {
  const line = await bridge.read();
  if (line !== null) throw new Error(`another line came, of type ${line.type}`);
  const { code } = await bridge.ended;
  if (code !== expected) throw new Error(`expected exit code ${expected}, got ${code}`);
}

const line = (bytes) => Buffer.concat([bytes, Buffer.from("\n")]);

const STEPS = {
  send: async (bridge, message, step) => {
    for (let n = 1; n <= (step.repeat ?? 1); n += 1) {
      await bridge.send(line(Buffer.from(JSON.stringify(numbered(message, n)))));
    }
  },
  send_text: (bridge, text, step) => bridge.send(line(Buffer.from(text.repeat(step.times ?? 1)))),
  send_hex: (bridge, hex) => bridge.send(line(Buffer.from(hex, "hex"))),
  send_unended: (bridge, text) => bridge.send(Buffer.from(text)),
  expect: async (bridge, expected, step) => {
    for (let count = step.repeat ?? 1; count > 0; count -= 1) {
      const problem = mismatch(expected, await bridge.nextLine());
      if (problem !== null) throw new Error(problem);
    }
  },
  expect_in_any_order: expectInAnyOrder,
  close: (bridge) => bridge.end(),
  signal: (bridge, name) => bridge.signal(name),
  exit: expectExit,
};

async function play(scenario, argv, speech) {
  const bridge = await Player.start([...argv, ...(scenario.options ?? [])]);
  try {
    for (const [place, step] of scenario.steps.entries()) {
      const kind = Object.keys(step)[0];
      try {
        await STEPS[kind](bridge, filled(step[kind], speech), step);
      } catch (error) {
        throw new Error(`step ${place + 1} (${kind}): ${error.message}; stderr: ${bridge.stderr.trim()}`);
      }
    }
  } finally {
    bridge.signal("SIGKILL");
    await bridge.ended;
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { commands: { type: "string" }, speech: { type: "string" } },
  });
  const commands = JSON.parse(readFileSync(values.commands, "utf8"));
  const write = (line) => process.stdout.write(`${line}\n`);
  write("TAP version 13");
  write(`1..${positionals.length}`);
  for (const [place, path] of positionals.entries()) {
    const scenario = JSON.parse(readFileSync(path, "utf8"));
    const name = `${place + 1} - ${basename(path, ".json")}: ${scenario.title}`;
    const argv = commands[scenario.engine];
    if (argv === undefined) {
      write(`ok ${name} # SKIP no command for the engine ${scenario.engine}`);
      continue;
    }
    try {
      await play(scenario, argv, values.speech);
      write(`ok ${name}`);
    } catch (error) {
      process.exitCode = 1;
      write(`not ok ${name}`);
      for (const line of error.message.split("\n")) write(`# ${line}`);
    }
  }
}

await main();

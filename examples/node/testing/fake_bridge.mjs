// A process that speaks the protocol as far as its tests need it, and misbehaves as its first argument says.

import { spawn } from "node:child_process";
import { appendFileSync, closeSync, existsSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";

const [behaviour, ...rest] = process.argv.slice(2);
const say = (line) => writeSync(1, `${JSON.stringify(line)}\n`);
const hello = { type: "capabilities", protocols: ["qwen3-asr-mlx-jsonl-v1"], version: "0", limits: { max_line_bytes: 100_000 } };
const heard = { chunks: 0 };
const all = []; // that was heard
const held = []; // and not answered
const sayTogether = (lines) => writeSync(1, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));

function streamReady({ id, stream_id = "default", sample_rate = 16_000 }) {
  return { type: "stream_ready", id, stream_id, sample_rate };
}

function sayInPieces(line) {
  for (const byte of Buffer.from(`${JSON.stringify(line)}\n`)) writeSync(1, Buffer.of(byte));
}

const BEHAVIOURS = {
  speaks: {},
  silent: { hello: () => {} },
  stranger: { hello: ({ id }) => say({ ...hello, id, protocols: ["another"] }) },
  hangs: { transcribe: () => {}, ping: () => {} },
  busy: { transcribe: ({ id }) => setTimeout(() => say({ type: "transcript", id, text: "late" }), Number(rest[0])) },
  dies: { transcribe: () => process.kill(process.pid, "SIGKILL") },
  dies_listening: { audio_chunk: () => process.kill(process.pid, "SIGKILL") },
  exits: { transcribe: () => process.exit(Number(rest[0])) },
  dies_once: {
    transcribe: ({ id }) => {
      appendFileSync(rest[0], "x"); // the first process makes the file, the second finds it
      if (heard.isFirst) process.exit(1);
      say({ type: "transcript", id, text: "again" });
    },
  },
  dies_wordless: {
    end_utterance: ({ id, stream_id, utterance_id }) => {
      const item = { type: "final_result", job: 7, stream_id, utterance_id, text: "one", words: null, words_pending: true };
      say({ type: "utterance_queued", id, stream_id, utterance_id });
      say({ type: "realtime_batch_final", event: true, items: [item] });
      if (heard.isFirst && rest[1] === "lingers") return;
      if (heard.isFirst) process.exit(1);
      say({ type: "words_ready", event: true, job: 7, stream_id, utterance_id, words: [], warnings: [] });
    },
  },
  says_fatal: {
    transcribe: () => {
      say({ type: "fatal", code: "internal_error", message: "It broke.", retryable: false });
      process.exit(1);
    },
  },
  babbles: { transcribe: () => writeSync(1, "Loading weights: 100%\n") },
  cuts: { transcribe: () => process.exit(writeSync(1, '{"type":"trans') && 0) },
  nulls: { transcribe: () => writeSync(1, "null\n") },
  confuses: { transcribe: ({ id }) => say({ type: "pong", id }) },
  pieces: { transcribe: ({ id }) => sayInPieces({ type: "transcript", id, text: "sí, 你好 🎙" }) },
  rambles: { transcribe: ({ id }) => say({ type: "transcript", id, text: "x".repeat(5_000_000) }) },
  swaps: {
    transcribe: (message) => {
      heard.first ??= message;
      if (message === heard.first) return;
      for (const { id, audio } of [message, heard.first]) say({ type: "transcript", id, text: audio });
    },
  },
  never: {
    transcribe: () => {},
    cancel: ({ id, target }) => {
      heard.cancelled = target;
      say({ type: "cancel_result", id, state: "cancelled" });
      say({ type: "error", id: target, code: "cancelled", message: "cancelled", retryable: false });
    },
    status: ({ id }) => say({ type: "status", id, cancelled: heard.cancelled ?? null }),
  },
  holds: {
    // until the next `ping`: then an event, what is ready and the `pong` come as one block
    start_stream: (message) => held.push(message),
    ping: ({ id }) => {
      const ready = held.splice(0).map(streamReady);
      sayTogether([{ type: "released", event: true }, ...ready, { type: "pong", id }]);
    },
    transcribe: () => {},
    cancel: ({ id }) => say({ type: "cancel_result", id, state: "done" }),
    status: ({ id }) => say({ type: "status", id, heard: all }),
  },
  deaf: {
    transcribe: () => {
      input.pause();
      process.once("SIGUSR2", () => input.resume());
    },
  },
  leaves_child: {
    transcribe: () => {
      const { pid } = spawn("sleep", ["600"], { stdio: rest[0] });
      say({ type: "left", event: true, pid });
      process.exit(1);
    },
  },
  leaves: { transcribe: () => closeSync(1) },
  stubborn: { stop: () => {} },
  noisy: { transcribe: ({ id }) => (writeSync(2, "noise\n".repeat(200_000)), say({ type: "transcript", id, text: "" })) },
  tells: {
    transcribe: ({ id }) => {
      for (let n = 1; n <= 3; n += 1) say({ type: "weather", event: true, n });
      say({ type: "transcript", id, text: "" });
    },
  },
};

const usual = {
  hello: ({ id, want }) => {
    Object.assign(hello, { wanted: want, arguments: rest });
    say({ ...hello, id });
  },
  capabilities: ({ id }) => say({ ...hello, id }),
  ping: ({ id }) => say({ type: "pong", id }),
  start: ({ id }) => say({ type: "ready", id }),
  transcribe: ({ id, audio }) => say({ type: "transcript", id, text: audio }),
  align: ({ id, ...members }) => say({ type: "aligned", id, members }),
  start_stream: (message) => say(streamReady(message)),
  audio_chunk: ({ seq, pcm16, utterance_id }) => {
    heard.chunks += 1;
    heard.bytes = (heard.bytes ?? 0) + Buffer.from(pcm16, "base64").length;
    heard.last = { seq, utterance_id };
  },
  end_utterance: ({ id, ...members }) => say({ type: "utterance_queued", id, ...heard, members }),
  stop_stream: ({ id }) => say({ type: "stream_stopped", id }),
  stop: ({ id }) => {
    say({ type: "stopped", id });
    process.exit(0);
  },
};

if (behaviour === "fails") {
  writeSync(2, "no such model\n");
  process.exit(Number(rest[0]));
}
if (["dies_once", "dies_wordless"].includes(behaviour)) heard.isFirst = !existsSync(rest[0]);
if (behaviour === "dies_wordless") appendFileSync(rest[0], "x");
if (behaviour === "stubborn") process.on("SIGTERM", () => {});
const answers = { ...usual, ...BEHAVIOURS[behaviour] };
const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  const message = JSON.parse(line);
  all.push(message);
  answers[message.type](message);
});
if (["stubborn", "leaves", "deaf"].includes(behaviour)) setInterval(() => {}, 1000);

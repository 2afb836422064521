// Plays a WAV file (16-bit PCM, mono) to the bridge as a microphone would, and prints what it understands meanwhile.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Bridge } from "./bridge.mjs";
import { commandLine } from "./command_line.mjs";

const USAGE = "node examples/node/live.mjs [--bridge PATH] [--model MODEL] examples/audio/english-ten.wav";
const CHUNK_SECONDS = 0.1;
const { values, files, bridgeArguments } = commandLine(USAGE, { least: 1 });

/** The rate and the PCM of a WAV file. */
function readWav(path) {
  const bytes = readFileSync(path);
  const format = bytes.indexOf("fmt ", 12);
  const data = bytes.indexOf("data", 12);
  const isPcm16Mono = format > 0 && bytes.readUInt16LE(format + 10) === 1 && bytes.readUInt16LE(format + 22) === 16;
  if (!isPcm16Mono || data < 0) throw new Error(`${path} is no WAV file of 16-bit PCM, mono`);
  return { rate: bytes.readUInt32LE(format + 12), pcm: bytes.subarray(data + 8, data + 8 + bytes.readUInt32LE(data + 4)) };
}

async function listen(bridge) {
  for await (const event of bridge.events) {
    if (event.type === "partial_result") console.log(`… ${event.text}`);
    if (event.type === "realtime_batch_final") for (const { text, error } of event.items) console.log(`= ${error?.message ?? text}`);
    if (event.type === "engine_restarting") console.error(`the engine starts again (${event.reason}); nothing is lost`);
    if (event.type === "bridge_lost") console.error(event.error.message);
  }
}

async function play(bridge, { rate, pcm }) {
  const stream = await bridge.startStream({ sample_rate: rate, partials: true, auto_flush: true, batch_size: 1 });
  const size = 2 * Math.round(rate * CHUNK_SECONDS);
  for (let start = 0; start < pcm.length; start += size) {
    await stream.append(pcm.subarray(start, start + size));
    await sleep(1000 * CHUNK_SECONDS);
  }
  await stream.endUtterance();
  await stream.stop(); // answered behind the final
}

const bridge = new Bridge({ bridge: values.bridge, arguments: bridgeArguments, openTimeout: 600_000 });
try {
  const wav = readWav(files[0]);
  const listening = listen(bridge);
  await bridge.start();
  await play(bridge, wav);
  await bridge.stop();
  await listening;
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
  await bridge.kill();
}

// Transcribes files, all at once, and prints each text as it comes.

import { resolve } from "node:path";
import { Bridge } from "./bridge.mjs";
import { commandLine } from "./command_line.mjs";

const USAGE = "node examples/node/transcribe.mjs [--bridge PATH] [--model MODEL] examples/audio/sample.wav other.flac";
const { values, files, bridgeArguments } = commandLine(USAGE, { least: 1, most: Infinity });
const bridge = new Bridge({ bridge: values.bridge, arguments: bridgeArguments, openTimeout: 600_000 });

async function transcribe(file) {
  try {
    const { text } = await bridge.transcribe(resolve(file));
    console.log(`${file}: ${text}`);
  } catch (error) {
    console.error(`${file}: ${error.message}`);
    process.exitCode = 1;
  }
}

await Promise.all(files.map(transcribe));
await bridge.stop();

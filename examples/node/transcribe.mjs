// Transcribes files, all at once, and prints each text as it comes.
//   node examples/node/transcribe.mjs [--bridge PATH] [--model MODEL] speech.wav other.flac

import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Bridge } from "./bridge.mjs";

const launcher = fileURLToPath(new URL("../../scripts/qwen3-asr-mlx-bridge", import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { bridge: { type: "string", default: launcher }, model: { type: "string", default: "demo" } },
});
const bridge = new Bridge({ bridge: values.bridge, arguments: ["--model", values.model], openTimeout: 600_000 });

async function transcribe(file) {
  try {
    const { text } = await bridge.transcribe(resolve(file));
    console.log(`${file}: ${text}`);
  } catch (error) {
    console.error(`${file}: ${error.message}`);
    process.exitCode = 1;
  }
}

await Promise.all(positionals.map(transcribe));
await bridge.stop();

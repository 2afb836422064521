// Transcribes files, all at once, and prints each text as it comes.
//   node examples/node/transcribe.mjs speech.wav other.flac

import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Bridge } from "./bridge.mjs";

const launcher = fileURLToPath(new URL("../../scripts/qwen3-asr-mlx-bridge", import.meta.url));
const bridge = new Bridge([launcher]);
const files = process.argv.slice(2);

files.forEach((file, id) => bridge.send({ type: "transcribe", id, audio: resolve(file) }));
for (let line = null, left = files.length; left > 0; left -= 1) {
  line = await bridge.read(24 * 3600 * 1000); // the first request may have to wait for a download
  if (line === null) break;
  process.stdout.write(`${files[line.id]}: ${line.text ?? line.message}\n`);
}
bridge.end();
const { code } = await bridge.exit;
if (code !== 0) process.stderr.write(bridge.stderr);
process.exitCode = code ?? 1;

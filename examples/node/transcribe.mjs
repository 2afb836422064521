// Transcribes files, all at once, and prints each text as it comes. With --srt it writes subtitles beside each file.

import { writeFile } from "node:fs/promises";
import { parse, resolve } from "node:path";
import { Bridge } from "./bridge.mjs";
import { commandLine } from "./command_line.mjs";
import { cues, srt } from "./subtitles.mjs";

const USAGE = "node examples/node/transcribe.mjs [--srt] [--bridge PATH] [--model MODEL] examples/audio/sample.wav other.flac";
const options = { srt: { type: "boolean", default: false } };
const { values, files, bridgeArguments } = commandLine(USAGE, { options, least: 1, most: Infinity });
const bridge = new Bridge({ bridge: values.bridge, arguments: bridgeArguments, openTimeout: 600_000 });

async function transcribe(file) {
  try {
    const { text, words, warnings } = await bridge.transcribe(resolve(file), { words: values.srt });
    console.log(`${file}: ${text}`);
    if (!values.srt) return;
    if (words === null) throw new Error(`no subtitles (${warnings.join(", ")})`);
    const { dir, name } = parse(resolve(file));
    await writeFile(`${dir}/${name}.srt`, srt(cues(text, words)), { flag: "wx" }); // an older file stays as it is
  } catch (error) {
    console.error(`${file}: ${error.message}`);
    process.exitCode = 1;
  }
}

await Promise.all(files.map(transcribe));
await bridge.stop();

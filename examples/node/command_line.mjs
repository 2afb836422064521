// What a program of the examples is asked to do.

import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const MISTAKE = 2; // exit status

// Where nobody takes the output any more, as after `| head`, there is nothing left to do.
process.stdout.on("error", (error) => {
  if (error.code !== "EPIPE") console.error(error.message);
  process.exit(1);
});

const launcher = fileURLToPath(new URL("../../scripts/qwen3-asr-mlx-bridge", import.meta.url));
const OPTIONS = {
  bridge: { type: "string", default: launcher },
  model: { type: "string" }, // the bridge's default where none is given
  help: { type: "boolean", default: false },
};

/**
 * `{ values, files, bridgeArguments }`, of `least` to `most` files. Ends the program where `--help` is there, which prints `usage`, or with one
 * line where something is wrong.
 */
export function commandLine(usage, { options = {}, least = 0, most = least } = {}) {
  try {
    const { values, positionals: files } = parseArgs({ allowPositionals: true, options: { ...OPTIONS, ...options } });
    if (!values.help && (files.length < least || files.length > most)) throw new Error(`${files.length} files are given`);
    if (!values.help) return { values, files, bridgeArguments: values.model ? ["--model", values.model] : [] };
    console.log(usage);
    process.exit(0);
  } catch (error) {
    console.error(`${error.message.split(". ")[0]}; --help tells what is wanted.`);
    process.exit(MISTAKE);
  }
}

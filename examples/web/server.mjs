// A page that records the microphone, and the server behind it: on this machine alone, without packages.

import { Bridge } from "../node/bridge.mjs";
import { commandLine } from "../node/command_line.mjs";
import { serve } from "./app.mjs";

const USAGE = "node examples/web/server.mjs [--port 8090] [--bridge PATH] [--model Qwen/Qwen3-ASR-0.6B]";
const { values, bridgeArguments } = commandLine(USAGE, { options: { port: { type: "string", default: "8090" } } });
const bridge = new Bridge({
  bridge: values.bridge,
  arguments: bridgeArguments,
  client: { name: "web example" },
  want: ["events"],
  openTimeout: 600_000, // the launcher may have to make its environment first
  onStderr: (line) => console.error(line),
});

async function end(server) {
  server.close();
  server.closeAllConnections();
  await bridge.stop("abort", 0);
  process.exit(0);
}

try {
  const server = await serve(bridge, Number(values.port));
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => end(server));
  console.log(`http://127.0.0.1:${server.address().port}/`);
  // Ahead of the first page, which would be told of a failure too.
  bridge.start({}, { words: true }).then(
    () => console.log("The model is loaded."),
    (error) => console.error(`The model could not be loaded: ${error.message}`),
  );
} catch (error) {
  console.error(`The server could not be started: ${error.message}`);
  process.exitCode = 1;
}

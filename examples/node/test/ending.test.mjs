// The end of a bridge that is stopped, or whose app exits.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { Bridge } from "../bridge.mjs";
import { FAKE, failure, fake, isRunning, test } from "../testing/harness.mjs";

test("stop ends a bridge that heeds neither stop nor SIGTERM", async (t) => {
  const bridge = fake(t, "stubborn");
  await bridge.open();
  assert.equal(await bridge.stop("drain", 0), null);
  assert.deepEqual([bridge.state, bridge.exit.name], ["stopped", "SIGKILL"]);
});

test("stop gives what the bridge said last, and requests fail from then on", async (t) => {
  const bridge = fake(t, "speaks");
  await bridge.open();
  const stopping = bridge.stop();
  assert.equal((await failure(bridge.ping())).code, "bridge_closed");
  assert.equal((await stopping).type, "stopped");
  assert.deepEqual([bridge.state, bridge.exit.name], ["stopped", "done"]);
  assert.equal((await failure(bridge.ping())).code, "bridge_closed");
  assert.equal((await bridge.open()).type, "capabilities");
});

test("stop and kill before the start do no harm", async () => {
  const bridge = new Bridge({ bridge: "/nowhere" });
  assert.equal(await bridge.stop(), null);
  await bridge.kill();
  assert.equal(bridge.state, "stopped");
});

test("what a bridge started ends with it, also where it ended by itself", async (t) => {
  for (const stdio of ["inherit", "ignore"]) {
    const bridge = fake(t, `leaves_child ${stdio}`);
    assert.equal((await failure(bridge.transcribe("a"))).code, "bridge_exited");
    const { value } = await bridge.events[Symbol.asyncIterator]().next();
    while (isRunning(value.pid)) await new Promise((go) => setTimeout(go, 20));
  }
});

test("an app that exits leaves no process behind, also where the bridge hangs", async () => {
  const script = `
    import { Bridge } from ${JSON.stringify(new URL("../bridge.mjs", import.meta.url).href)};
    const bridge = new Bridge({ bridge: process.execPath, arguments: [${JSON.stringify(FAKE)}, "stubborn"] });
    await bridge.open();
    process.stdout.write(String(bridge.pid), () => process.exit(3));`;
  const output = (() => {
    try {
      return execFileSync(process.execPath, ["--input-type=module", "--eval", script]);
    } catch (error) {
      assert.equal(error.status, 3);
      return error.stdout;
    }
  })();
  const pid = Number(output.toString());
  while (isRunning(pid)) await new Promise((go) => setTimeout(go, 20));
});

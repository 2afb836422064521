// What the tests of the client share: a bridge that misbehaves as it is told.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test as untimed } from "node:test";
import { fileURLToPath } from "node:url";
import { Bridge } from "../bridge.mjs";

export const FAKE = fileURLToPath(new URL("fake_bridge.mjs", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "bridge-"));
after(() => rmSync(scratch, { recursive: true }));

export const test = (name, body) => untimed(name, { timeout: 120_000 }, body);
export const folder = () => mkdtempSync(join(scratch, "test-"));

/** A bridge that is ended with its test. */
export function fake(t, behaviour, settings = {}) {
  const argv = [FAKE, ...behaviour.split(" ")];
  const bridge = new Bridge({ bridge: process.execPath, arguments: argv, ...settings });
  t.after(() => bridge.kill());
  return bridge;
}

export async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: "it did not fail" });
}

export function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

// How long somebody waits for a reply.

import { bounded } from "./times.mjs";

/**
 * The reply. If `signal` aborts first, or in the same turn, or `timeout` milliseconds go by, `abandon()` is called, and it
 * fails with the signal's reason, or with `late()`.
 */
export async function waitFor(reply, { signal, timeout, late, abandon }) {
  let giveUp;
  const givenUp = new Promise((_, reject) => (giveUp = (error) => (abandon(), reject(error))));
  const onAbort = () => giveUp(signal.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  const timer = timeout && setTimeout(() => giveUp(late()), bounded(timeout));
  try {
    const line = await Promise.race([reply, givenUp]);
    signal?.throwIfAborted();
    return line;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** `{ promise, resolve, reject }`; nobody has to wait for it. */
export function deferred() {
  const settled = {};
  settled.promise = new Promise((resolve, reject) => Object.assign(settled, { resolve, reject }));
  settled.promise.catch(() => {});
  return settled;
}

// Compiled by `tsc --noEmit`, never run: what an app in TypeScript may write, and what it may not.

import { Bridge, BridgeError, type BridgeEvent, type ClientErrorCode } from "../bridge.mjs";

const settings = { bridge: "/bridge", arguments: ["--model", "demo"], resend: true, keptBytes: 1 << 20 };
const bridge = new Bridge({ ...settings, onStderr: (line) => void line.length });

export async function file(signal: AbortSignal): Promise<string | undefined> {
  const { text, language } = await bridge.transcribe("a.wav", { language: "en", max_new_tokens: 0 }, { signal, timeout: 5 });
  const batch = await bridge.batchTranscribe(["a.wav"], { decoder_mode: "batched" });
  const failed: string | undefined = batch.items[0]?.error?.code;
  return `${text} ${language} ${failed}`;
}

export async function words(): Promise<number | undefined> {
  const { words, segments } = await bridge.transcribe("a.wav", { words: true, segments: true });
  const { confidence, words: known } = await bridge.align("a.wav", "one two", "en", { timeout_ms: 1000 });
  const mic = await bridge.startStream({ words: true });
  await mic.endUtterance({ words: false });
  await bridge.start({}, { words: true });
  return words?.[0]?.start ?? segments?.[0]?.end ?? known[0]?.time_confidence ?? confidence ?? undefined;
}

export async function stream(pcm: Int16Array): Promise<number> {
  const mic = await bridge.startStream({ stream_id: "mic", partials: true, sample_rate: 48_000, final_policy: "strict" });
  await mic.append(pcm, "u");
  const queued = await mic.endUtterance();
  if (queued.type === "utterance_queued") return queued.samples;
  const { dropped_samples } = await mic.stop("discard");
  return dropped_samples + mic.ready.sample_rate;
}

export async function memory(): Promise<number> {
  const { load } = await bridge.start({ timeout: 60 }, { keep_alive_seconds: 300 });
  const { freed_bytes } = await bridge.unload({ mode: load === "none" ? "drain" : "abort" });
  return freed_bytes;
}

export function show(event: BridgeEvent): string {
  switch (event.type) {
    case "partial_result":
      return event.text;
    case "realtime_batch_final":
      return event.items.map(({ text, replayed }) => (replayed ? `${text} (again)` : text)).join(" ");
    case "words_ready":
      return event.words?.map(({ text, start, end }) => `${text} ${end - start}`).join(" ") ?? String(event.error?.code);
    case "bridge_lost":
      return `${event.error.message} ${event.willRestart}`;
    case "utterance_lost":
      return `${event.utterance_id} ${event.error.code}`;
    case "events_lost":
      return String(event.count);
    case "stream_error":
      return event.code;
    case "progress":
      return event.stage;
    case "engine_restarting":
      return `${event.reason} ${event.attempt}`;
  }
}

export async function everything(): Promise<ClientErrorCode | null> {
  try {
    for await (const event of bridge.events) show(event);
    const stopped = await bridge.stop("drain", 1000);
    return stopped === null ? null : (stopped.reason, null);
  } catch (error) {
    return error instanceof BridgeError ? error.code : null;
  }
}

// @ts-expect-error a member that is not there
bridge.transcribe("a.wav", { langauge: "en" });
// @ts-expect-error the language decides where a word ends
bridge.align("a.wav", "one two");
// @ts-expect-error no such policy
bridge.startStream({ final_policy: "loose" });
// @ts-expect-error the client gives the id
bridge.transcribe("a.wav", { id: 1 });
// @ts-expect-error only the client makes its errors
new BridgeError("bridge_exited");
// @ts-expect-error a bridge needs a program
new Bridge({});

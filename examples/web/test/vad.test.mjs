import assert from "node:assert/strict";
import { test } from "node:test";
import { HANG_OVER_MS, PAUSE_MS, Vad, level } from "../vad.mjs";

const RATE = 16_000;
const silence = (ms) => new Int16Array((RATE * ms) / 1000);
const tone = (ms, peak) => silence(ms).map((_, n) => peak * Math.sin((2 * Math.PI * 440 * n) / RATE));
const joined = (parts) => Int16Array.from(parts.flatMap((part) => [...part]));

/** What the VAD makes of audio in blocks of this size: milliseconds of speech, "pause" and "end". */
function heard(parts, size = 1600, vad = new Vad(RATE)) {
  const audio = joined(parts);
  const seen = [];
  for (let at = 0; at < audio.length; at += size) {
    for (const { speech, pause, end } of vad.feed(audio.subarray(at, at + size))) {
      const last = seen.at(-1);
      if (pause || end) seen.push(pause ? "pause" : "end");
      else if (typeof last === "number") seen[seen.length - 1] = last + (1000 * speech.length) / RATE;
      else seen.push((1000 * speech.length) / RATE);
    }
  }
  return seen;
}

test("a level is told in decibels below full scale", () => {
  assert.equal(level(silence(20)), -100);
  assert.ok(Math.abs(level(new Int16Array(320).fill(16_384)) + 6.02) < 0.01);
});

test("an utterance has what came before it, and ends after the hang-over", () => {
  const seen = heard([silence(1000), tone(500, 8000), silence(2000)]);
  assert.deepEqual(seen, [300 + 500 + PAUSE_MS - 40, "pause", HANG_OVER_MS - PAUSE_MS, "end"]);
});

test("what is heard does not depend on how the audio was cut", () => {
  const audio = [silence(700), tone(500, 8000), silence(900), tone(300, 4000), silence(900)];
  for (const size of [1, 77, 320, 5000, 60_000]) assert.deepEqual(heard(audio, size), heard(audio));
});

test("speech tells where it begins in what was taken, however that was cut", () => {
  const audio = joined([silence(1000), tone(500, 8000), silence(2000), tone(500, 8000), silence(1000)]);
  for (const size of [320, 1601, 80_000]) {
    const vad = new Vad(RATE);
    for (let at = 0; at < audio.length; at += size) {
      for (const { speech, start } of vad.feed(audio.subarray(at, at + size))) {
        if (speech) assert.deepEqual(speech, audio.slice(start, start + speech.length));
      }
    }
  }
});

test("each quiet of 200 ms within an utterance is a pause, once, and a shorter one is none", () => {
  const breaths = [400, 160, 260].flatMap((ms) => [silence(ms), tone(300, 8000)]);
  for (const size of [77, 1600, 60_000]) {
    const seen = heard([tone(300, 8000), ...breaths, silence(1000)], size);
    const [first, second] = [300 + PAUSE_MS, 200 + 300 + 160 + 300 + PAUSE_MS];
    assert.deepEqual(seen, [first, "pause", second, "pause", 60 + 300 + PAUSE_MS, "pause", HANG_OVER_MS - PAUSE_MS, "end"]);
  }
});

test("there is a pause until somebody speaks again, or the utterance ends", () => {
  const vad = new Vad(RATE);
  const after = (...parts) => {
    heard(parts, 1600, vad);
    return vad.isPause;
  };
  assert.equal(after(silence(1000)), false);
  assert.equal(after(tone(500, 8000), silence(PAUSE_MS - 20)), false);
  assert.equal(after(silence(20)), true);
  assert.equal(after(tone(20, 8000)), false);
  assert.equal(after(silence(PAUSE_MS)), true);
  assert.equal(after(silence(HANG_OVER_MS - PAUSE_MS)), false);
});

test("a pause that is shorter than the hang-over ends nothing", () => {
  const seen = heard([silence(500), tone(500, 8000), silence(HANG_OVER_MS - 100), tone(500, 8000), silence(1000)]);
  assert.equal(seen.filter((each) => each === "end").length, 1);
});

test("speech at the very start is whole, and silence alone is nothing", () => {
  assert.deepEqual(heard([tone(500, 8000), silence(1000)]), [500 + PAUSE_MS, "pause", HANG_OVER_MS - PAUSE_MS, "end"]);
  assert.deepEqual(heard([silence(5000)]), []);
});

test("speech that pauses for breath alone goes on, however long, and is handed over as it comes", () => {
  const vad = new Vad(RATE);
  const sentence = [tone(1500, 8000), silence(HANG_OVER_MS - 100)];
  for (let n = 0; n < 60; n += 1) assert.equal(heard(sentence, 1600, vad).includes("end"), false);
  assert.equal(vad.isSpeech, true);
});

test("a second is a second at the rates that microphones have", () => {
  for (const rate of [8000, 44_100, 48_000]) {
    const loud = new Int16Array(rate).map((_, n) => 8000 * Math.sin(n));
    const spoken = [...new Vad(rate).feed(loud)].reduce((sum, { speech }) => sum + speech.length, 0);
    assert.equal(spoken, rate);
  }
});

test("a click is no speech, and neither is a steady noise after a while", () => {
  assert.deepEqual(heard([silence(500), tone(40, 20_000), silence(1000)]), []);
  const vad = new Vad(RATE);
  heard([silence(1000), tone(60_000, 400)], 1600, vad);
  assert.equal(vad.isSpeech, false);
});

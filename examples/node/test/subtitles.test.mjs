// Words → cues.

import assert from "node:assert/strict";
import { test } from "node:test";
import { cues, srt } from "../subtitles.mjs";

/** Words of a text, each half a second long, one after the other; `pauses` before some of them, in seconds. */
function wordsOf(text, pauses = {}) {
  let start = 0;
  let char_start = 0;
  return [...text.matchAll(/\S+\s*/gu)].map(([token], place) => {
    start += pauses[place] ?? 0;
    const char_end = char_start + [...token].length;
    const word = { text: token.trim(), start, end: start + 0.5, char_start, char_end };
    [start, char_start] = [word.end, char_end];
    return word;
  });
}

const linesOf = (text, pauses) => cues(text, wordsOf(text, pauses)).map(({ lines }) => lines);

test("a sentence is a cue, with its punctuation", () => {
  assert.deepEqual(linesOf("One two. “Three?” Four 🎙… five"), [["One two."], ["“Three?”"], ["Four 🎙…"], ["five"]]);
});

test("a long pause ends a cue, a short one does not", () => {
  assert.deepEqual(linesOf("one two three", { 1: 0.6, 2: 0.8 }), [["one two"], ["three"]]);
});

test("a cue has two lines of 42 characters at most, of about the same length", () => {
  const text = "word ".repeat(40).trim();
  const lines = linesOf(text);
  assert.deepEqual(lines[0], ["word word word word word word word word", "word word word word word word word word"]);
  assert.equal(lines.flat().join(" "), text);
  assert.ok(lines.flat().every((line) => line.length <= 42));
  assert.ok(lines.every((cue) => cue.length <= 2));
  assert.deepEqual(linesOf("The quick brown fox jumps over the lazy dogs, twice"), [
    ["The quick brown fox jumps", "over the lazy dogs, twice"],
  ]);
});

test("a word that is longer than a line is cut, and its parts share its time", () => {
  const text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen 17 18";
  const whole = [{ text, start: 10, end: 20, char_start: 0, char_end: text.length }];
  const found = cues(text, whole);
  assert.equal(found.flatMap(({ lines }) => lines).join(" "), text);
  assert.ok(found.flatMap(({ lines }) => lines).every((line) => line.length <= 42));
  assert.deepEqual([found[0].start, found.at(-1).end], [10, 20]);
  assert.ok(found.length === 2 && found[0].end === found[1].start);
  assert.deepEqual(linesOf("x".repeat(50)), [["x".repeat(42), "x".repeat(8)]]);
});

test("words without spaces between them stay together", () => {
  const words = ["你", "好。", "再见"].map((text, place) => ({ text, start: place, end: place + 1 }));
  const ranges = [[0, 1], [1, 3], [3, 5]];
  const found = cues("你好。再见", words.map((word, place) => ({ ...word, char_start: ranges[place][0], char_end: ranges[place][1] })));
  assert.deepEqual(found.map(({ lines }) => lines), [["你好。"], ["再见"]]);
});

test("a cue stays for a second unless the next one comes", () => {
  const times = cues("One. Two.", wordsOf("One. Two.")).map(({ start, end }) => [start, end]);
  assert.deepEqual(times, [[0, 0.5], [0.5, 1.5]]);
});

test("a file of cues is SubRip", () => {
  const found = [{ start: 0, end: 1.2345, lines: ["One"] }, { start: 3599.9996, end: 7322.05, lines: ["Two,", "three."] }];
  const first = "1\n00:00:00,000 --> 00:00:01,235\nOne\n";
  assert.equal(srt(found), `${first}\n2\n01:00:00,000 --> 02:02:02,050\nTwo,\nthree.\n`);
  assert.equal(srt(cues("…", [])), "");
});

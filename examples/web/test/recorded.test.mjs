import assert from "node:assert/strict";
import { test } from "node:test";
import { Recorded } from "../public/recorded.js";

test("a part of what was recorded is the same wherever its blocks were cut", () => {
  const all = Int16Array.from({ length: 1000 }, (_, n) => n);
  for (const size of [1, 7, 100, 1000]) {
    const recorded = new Recorded(100);
    for (let at = 0; at < all.length; at += size) recorded.add(all.slice(at, at + size).buffer);
    for (const [start, seconds] of [[0, 10], [0, 0.01], [3.21, 4.32], [9.99, 0.01]]) {
      assert.deepEqual([...recorded.cut(start, seconds)], [...all.slice(100 * start, Math.round(100 * (start + seconds)))]);
    }
    assert.equal(recorded.cut(9.5, 60).length, 50);
    assert.equal(recorded.cut(10, 1), null);
  }
});

test("the last five minutes are kept", () => {
  const recorded = new Recorded(10);
  for (let second = 0; second < 400; second += 1) recorded.add(new Int16Array(10).fill(second).buffer);
  assert.equal(recorded.cut(99, 1), null);
  assert.deepEqual([...recorded.cut(100, 1)], new Array(10).fill(100));
  assert.deepEqual([...recorded.cut(399, 1)], new Array(10).fill(399));
});

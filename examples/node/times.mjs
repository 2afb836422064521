// Times in milliseconds, which may be infinite.

const LONGEST_MS = 2 ** 31 - 1; // a timer takes a longer time for none

export function bounded(milliseconds) {
  return Math.min(milliseconds, LONGEST_MS);
}

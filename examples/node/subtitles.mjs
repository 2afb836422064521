// Words and their times → the cues of a subtitle file (SubRip).

const LINE = 42; // characters; a cue has two lines at most
const PAUSE_SECONDS = 0.7; // between two words: a new cue
const LEAST_SECONDS = 1; // that a cue stays, if the next one lets it
const SENTENCE_END = /[.!?…。！？｡]["'”’»›)\]」』]*$/u;

const clean = (text) => text.replace(/\s+/gu, " ").trim();
const lengthOf = (text) => [...clean(text)].length;

/** Of a text with its words: `{ start, end, lines }`, in seconds. A sentence's end and a pause end a cue. */
export function cues(text, words) {
  const pieces = cut(text, words);
  const found = [];
  for (const [place, piece] of pieces.entries()) {
    const before = pieces[place - 1];
    const isNew = before === undefined || SENTENCE_END.test(before.text.trim()) || piece.start - before.end >= PAUSE_SECONDS;
    const cue = found.at(-1);
    if (isNew || wrapped([...cue, piece]) === null) found.push([piece]);
    else cue.push(piece);
  }
  return found.map((cue, place) => ({ ...times(cue, found[place + 1]), lines: wrapped(cue) }));
}

export function srt(cues) {
  return cues.map(({ start, end, lines }, place) => `${place + 1}\n${clock(start)} --> ${clock(end)}\n${lines.join("\n")}\n`).join("\n");
}

/** Words with what is between them and the next; a longer one than a line, as of a segment whose words have no times, in
 * parts. */
function cut(text, words) {
  const characters = [...text]; // ranges count code points
  return words.flatMap(({ start, end, char_start, char_end }) => {
    const parts = split(characters.slice(char_start, char_end).join(""));
    const length = char_end - char_start;
    let place = 0;
    return parts.map((part) => {
      const from = place;
      place += [...part].length;
      const at = (share) => start + ((end - start) * share) / length;
      return { text: part, start: at(from), end: at(place) };
    });
  });
}

/** Parts that fit on a line, cut behind spaces if possible. */
function split(text) {
  if (lengthOf(text) <= LINE) return [text];
  const parts = [""];
  for (const token of text.match(new RegExp(`\\S{1,${LINE}}\\s*`, "gu"))) {
    if (parts.at(-1) !== "" && lengthOf(parts.at(-1) + token) > LINE) parts.push("");
    parts[parts.length - 1] += token;
  }
  return parts;
}

/** One line, or two of about the same length; null if they are too long. */
function wrapped(pieces) {
  const join = (some) => some.map(({ text }) => text).join("");
  if (lengthOf(join(pieces)) <= LINE) return [clean(join(pieces))];
  let best = null;
  let least = LINE + 1;
  for (let at = 1; at < pieces.length; at += 1) {
    const lines = [join(pieces.slice(0, at)), join(pieces.slice(at))];
    const longest = Math.max(...lines.map(lengthOf));
    if (longest < least) [best, least] = [lines.map(clean), longest];
  }
  return best;
}

function times(cue, next) {
  const { start } = cue[0];
  const end = Math.max(cue.at(-1).end, Math.min(start + LEAST_SECONDS, next?.[0].start ?? Infinity));
  return { start, end };
}

function clock(seconds) {
  const all = Math.round(1000 * seconds);
  const padded = (value, width = 2) => String(Math.floor(value)).padStart(width, "0");
  const hours = padded(all / 3_600_000);
  return `${hours}:${padded((all / 60_000) % 60)}:${padded((all / 1000) % 60)},${padded(all % 1000, 3)}`;
}

// What tlkeras/texts/bytepairs.py does: the bytes of words, merged pair by pair.

import { points, table } from "./characters.js";

const SPACE = 0; // Kinds of characters, the only one that counts by itself.
const SHORT = new Set(["s", "t", "m", "d"]); // Endings behind an apostrophe.
const LONG = new Set(["re", "ve", "ll"]);

/** Returns a function from a text to the ids of its pieces. */
export function cutter({ vocabulary, merges, letters, characters }) {
  const ids = new Map(vocabulary.map((piece, id) => [piece, id]));
  const ranks = new Map(merges.map((pair, rank) => [pair, rank]));
  const kind = table(characters);
  const alphabet = Array.from(letters); // The letter that stands for each byte.
  const encoder = new TextEncoder();
  return (text) =>
    words(points(text), kind).flatMap((word) => {
      const bytes = Array.from(encoder.encode(word), (byte) => alphabet[byte]);
      const known = bytes.filter((letter) => ids.has(letter)); // As by `tokenizers`.
      return merged(known, ranks).map((piece) => ids.get(piece));
    });
}

/**
 * Returns the words by the expression of GPT-2,
 * `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
 */
function words(given, kind) {
  const characters = given.map((point) => String.fromCodePoint(point));
  const kinds = given.map((point) => kind(point)[0]);
  const found = [];
  for (let start = 0, end; start < given.length; start = end) {
    end = ending(characters, start) ?? run(characters, kinds, start);
    found.push(characters.slice(start, end).join(""));
  }
  return found;
}

function ending(characters, start) {
  if (characters[start] !== "'") return null;
  const [first, second] = characters.slice(start + 1, start + 3);
  if (SHORT.has(first)) return start + 2;
  return LONG.has(first + second) ? start + 3 : null;
}

function run(characters, kinds, start) {
  const isSpaced = characters[start] === " " && start + 1 < kinds.length;
  const first = isSpaced && kinds[start + 1] !== SPACE ? start + 1 : start;
  let end = first + 1;
  while (kinds[end] === kinds[first]) end++;
  // The last of several spaces is set off if something follows.
  const isCut = kinds[first] === SPACE && end < kinds.length && end - start > 1;
  return isCut ? end - 1 : end;
}

function merged(given, ranks) {
  const pieces = [...given];
  for (;;) {
    let best = Infinity;
    let place = -1;
    for (let i = 0; i + 1 < pieces.length; i++) {
      const rank = ranks.get(`${pieces[i]} ${pieces[i + 1]}`) ?? Infinity;
      if (rank < best) [best, place] = [rank, i];
    }
    if (place < 0) return pieces;
    pieces.splice(place, 2, pieces[place] + pieces[place + 1]);
  }
}

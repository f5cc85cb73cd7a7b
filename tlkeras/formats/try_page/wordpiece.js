// What tlkeras/texts/wordpiece.py does: a text into the longest pieces of words.

import { points, table } from "./characters.js";

const [SPACE, PUNCTUATION, , STRANGE] = [0, 1, 2, 3]; // Kinds of characters; 2 is a letter.
const NO_PIECE = "\ud800"; // In place of a letter that no piece has.
const INSIDE = "##"; // Before a piece that does not begin its word.

/** Returns a function from a text to the ids of its pieces. */
export function cutter({ vocabulary, characters, longest, unknown }) {
  const ids = new Map(vocabulary.map((piece, id) => [piece, id]));
  const changes = table(characters);
  return (text) =>
    words(points(text), changes).flatMap((word) => {
      if (word.length > longest) return [unknown];
      return pieces(word, ids) ?? [unknown];
    });
}

/** Returns the words, each a list of characters: what lies between spaces, and every other sign. */
function words(given, changes) {
  const found = [];
  let isOpen = false; // Whether a letter goes on with the last word.
  for (const point of given) {
    for (const change of changes(point)) {
      // A character becomes up to three; each is a code point times 4 plus its kind.
      const code = 4 * point + change;
      const kind = code & 3;
      if (kind === SPACE) {
        isOpen = false;
        continue;
      }
      if (!isOpen || kind === PUNCTUATION) found.push([]);
      found.at(-1).push(kind === STRANGE ? NO_PIECE : String.fromCodePoint(code >> 2));
      isOpen = kind !== PUNCTUATION;
    }
  }
  return found;
}

/** Returns the ids of a word, the longest piece first; null if one part is no piece. */
function pieces(word, ids) {
  const found = [];
  let start = 0;
  while (start < word.length) {
    let end = word.length;
    let id;
    for (; end > start; end--) {
      id = ids.get((start ? INSIDE : "") + word.slice(start, end).join(""));
      if (id !== undefined) break;
    }
    if (id === undefined) return null;
    found.push(id);
    start = end;
  }
  return found;
}

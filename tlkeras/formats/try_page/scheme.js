// Which tags a sentence can have, and which are its own; measures/tagging.py says why.

export const NONE = "O"; // The tag of a word that is of no entity.

const LETTERS = { B: "B", I: "I", M: "I", E: "E", L: "E", S: "S", U: "S" };
const LEAST = 1e-30;
const NEVER = -1e6;

/** Returns `{letter, kind}` of a tag: of "B-place" and "M-place" they are B, I and the place. */
export function split(tag) {
  if (tag === NONE) return { letter: NONE, kind: NONE };
  const found = /^([BIMELSU])-(.+)/.exec(tag);
  return found ? { letter: LETTERS[found[1]], kind: found[2] } : { letter: "S", kind: tag };
}

/**
 * Returns a function from the words of a sentence to their tags.
 *
 * A word is the array of its probabilities, or null where the network does not see it: that has
 * the tag "".
 */
export function tagger(tags) {
  const parts = tags.map(split);
  const numberOf = (letter, kind) =>
    parts.findIndex((part) => part.letter === letter && part.kind === kind);
  const closes = tags.some((tag) => /^[ELSU]-./.test(tag));
  const states = parts.map(({ letter, kind }) => {
    const first = numberOf("B", kind);
    const inner = numberOf("I", kind);
    const unrest = "BI".includes(letter) && closes && first >= 0 && numberOf("E", kind) >= 0;
    const before = "IE".includes(letter) && first >= 0 ? [first, inner < 0 ? first : inner] : null;
    return { before, unrest: unrest ? NEVER : 0 };
  });
  const most = (scores) => scores.reduce((best, score, at) => (score > scores[best] ? at : best), 0);
  const free = (scores) => most(scores.map((score, at) => score + states[at].unrest));
  const tagged = (rows) => {
    let scores = null; // Of every tag of the word before; the first has none.
    const backs = rows.map((row) => {
      const rest = scores && free(scores);
      const back = states.map(({ before }) => {
        if (!before) return rest;
        return scores && scores[before[0]] >= scores[before[1]] ? before[0] : before[1];
      });
      scores = states.map(({ before }, at) => {
        const so = scores ? scores[back[at]] : before ? NEVER : 0;
        return so + Math.log(Math.max(row[at], LEAST));
      });
      return back;
    });
    const found = scores ? [free(scores)] : [];
    for (const back of backs.slice(1).reverse()) found.unshift(back[found[0]]);
    return found.map((at) => tags[at]);
  };
  return (rows) => {
    const found = [];
    let run = []; // An entity goes on only where words that the network sees follow each other.
    for (const row of [...rows, null]) {
      if (row) {
        run.push(row);
      } else {
        found.push(...tagged(run), "");
        run = [];
      }
    }
    return found.slice(0, -1);
  };
}

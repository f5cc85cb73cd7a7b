// What every code point is to a tokenizer, as tlkeras/texts/characters.py has it: the browser's own
// tables are of another version of Unicode.

/**
 * Returns a function from a code point to what the runs of alike points say of it.
 *
 * A run is `[first, ...what]`; runs are in order, and the first begins at 0.
 */
export function table(runs) {
  return (point) => {
    let [low, high] = [0, runs.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (runs[middle][0] <= point) low = middle;
      else high = middle;
    }
    return runs[low].slice(1);
  };
}

/** Returns the code points of a text; halves of characters become U+FFFD, as in UTF-8. */
export function points(text) {
  return Array.from(text, (character) => {
    const point = character.codePointAt(0);
    return point >= 0xd800 && point <= 0xdfff ? 0xfffd : point;
  });
}

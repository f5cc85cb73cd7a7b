// What tlkeras/texts/rows.py does: pieces cut, framed by special ones and padded to one length.

/** Returns Int32Array [length]: the first pieces of a text in their frame. */
export function one(pieces, frame, length, padding) {
  return padded(framed([pieces.slice(0, room(frame, length))], frame), length, padding);
}

/**
 * Returns the same of two texts. Where both do not fit the longer one is cut, and if that is not
 * enough both to a half.
 */
export function two(first, second, frame, length, padding) {
  const free = room(frame, length);
  let [short, long] = [first.length, second.length].sort((a, b) => a - b);
  if (short + long > free) long = Math.max(short, free - short);
  if (short + long > free) [short, long] = [Math.floor(free / 2), Math.ceil(free / 2)];
  const [here, there] = first.length > second.length ? [long, short] : [short, long];
  return padded(framed([first.slice(0, here), second.slice(0, there)], frame), length, padding);
}

/**
 * Returns the ids of words, the place of the first piece of each, -1 if it was cut off, and its
 * casing, of `kinds`.
 */
export function ofWords(words, kinds, frame, length, padding) {
  const starts = new Int32Array(length).fill(-1);
  const casing = new Int32Array(length);
  const last = room(frame, length);
  let place = 0;
  words.forEach((pieces, word) => {
    if (pieces.length && place < last) {
      starts[word] = frame[0].length + place;
      casing[word] = kinds[word];
    }
    place += pieces.length;
  });
  return { token_ids: one(words.flat(), frame, length, padding), starts, casing };
}

/** Returns how many pieces there is room for. */
export function room(frame, length) {
  return length - frame.flat().length;
}

function framed(parts, frame) {
  return [frame[0], ...parts.flatMap((part, place) => [part, frame[place + 1]])].flat();
}

function padded(ids, length, padding) {
  const row = new Int32Array(length).fill(padding);
  row.set(ids);
  return row;
}

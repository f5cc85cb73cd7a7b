// The input of texts: one, two, or one that is taken as its words.

import * as bytepairs from "./bytepairs.js";
import { json } from "./files.js";
import { ofWords, one, room, two } from "./rows.js";
import { complain, part, say } from "./status.js";
import * as wordpiece from "./wordpiece.js";

const CUTTERS = { bytepairs: bytepairs.cutter, wordpiece: wordpiece.cutter };
const WORDS = 60; // So many words of a text are left out, one at a time.
const LEAST = 0.02; // Words that change a score by less are not marked.
const PAUSE = 400; // Milliseconds without a key, after which the answer is read aloud.

export const controls = "text-input";
export const ask = "Type a text";
export const words = { whole: "text", preparing: "tokenizing" };
export const fact = ({ length }) => `of ${length} pieces`;

/** Lets the controls work; `show` gets a `source` of the `words` of the text. */
export async function open(input, run, show, clear) {
  const fields = [part("text"), part("pair")].slice(0, input.texts);
  part("pair-field").hidden = fields.length < 2;
  if (fields.length > 1) part("text-label").textContent = "First text";
  const names = Object.keys(input.tensors); // A single one has the name of the text.
  const prepare = prepared(await json("pieces.json"), input);
  let isBusy = false;
  let isStale = false; // Whether something was typed since the network began.
  let pause = null;

  const answer = async () => {
    const texts = fields.map((field) => field.value);
    if (texts.some((text) => !text.trim())) {
      clear();
      part("count").textContent = "";
      return say(`${ask}.`);
    }
    const start = performance.now();
    const { arrays, pieces, most, source } = prepare(texts);
    const between = performance.now();
    const answers = (given) => run(names.length > 1 ? given : { [names[0]]: given.token_ids });
    const served = await answers(arrays);
    const end = performance.now();
    part("count").textContent = pieces > most
      ? `The model reads ${most} of ${pieces} pieces; the rest is cut off.`
      : `${pieces} of at most ${most} pieces.`;
    part("count").classList.toggle("cut", pieces > most);
    const found = { served, preparing: between - start, running: end - between };
    const without = (others) => {
      clearTimeout(pause); // What was found out is said, not this answer.
      return answers(prepare([others, ...texts.slice(1)]).arrays);
    };
    const sentence = show(found, { ...source, parts: parts(texts[0], without) });
    clearTimeout(pause);
    pause = setTimeout(() => say(sentence), PAUSE);
  };

  const typed = async () => {
    isStale = true;
    if (isBusy) return;
    isBusy = true;
    try {
      while (isStale) {
        isStale = false;
        clearTimeout(pause);
        await answer();
      }
    } catch (error) {
      clear();
      complain(`The text cannot be read: ${error.message}`);
    }
    isBusy = false;
  };
  for (const field of fields) field.addEventListener("input", typed);
}

/**
 * Returns a function from texts to the `arrays` of a network's inputs; with how many `pieces` there
 * are, how `most` are read, and the `source` of the answer.
 */
export function prepared(settings, { reads, length }) {
  const cut = CUTTERS[settings.cutter](settings);
  const kind = kindOf(settings.casing);
  const { frames, padding, between } = settings;
  const READERS = {
    text: ([text]) => {
      const pieces = cut(text);
      return [{ token_ids: one(pieces, frames[0], length, padding) }, pieces.length, frames[0]];
    },
    pair: (texts) => {
      const [first, second] = texts.map(cut);
      const ids = two(first, second, frames[1], length, padding);
      return [{ token_ids: ids }, first.length + second.length, frames[1]];
    },
    words: ([text]) => {
      const spelled = split(text);
      const pieces = spelled.map((word, place) => cut(place ? between + word : word));
      const arrays = ofWords(pieces, spelled.map(kind), frames[0], length, padding);
      return [arrays, pieces.flat().length, frames[0]];
    },
  };
  return (texts) => {
    const [arrays, pieces, frame] = READERS[reads](texts);
    return { arrays, pieces, most: room(frame, length), source: { words: split(texts[0]) } };
  };
}

/** Returns a function that gives the number of the first pattern that a word matches, from 1 on. */
function kindOf(patterns) {
  const known = patterns.map((pattern) => new RegExp(`^(?:${pattern})$`, "u"));
  return (word) => 1 + [...known, /^/].findIndex((pattern) => pattern.test(word));
}

/** Returns the words of a text, as `tf.strings.split` does: only spaces of ASCII part them. */
function split(text) {
  return text.split(/[ \t\n\v\f\r]+/).filter(Boolean);
}

/** Returns the parts of a text, its words, as `offer` of why.js wants them. */
function parts(text, without) {
  const words = [...text.matchAll(/[^ \t\n\v\f\r]+/g)].slice(0, WORDS);
  part("words").hidden = true;
  return {
    count: words.length,
    without: (each) => {
      const { index, 0: word } = words[each];
      return without(text.slice(0, index) + text.slice(index + word.length));
    },
    paint: (weights, label) => {
      const most = Math.max(...weights.map(Math.abs), Number.MIN_VALUE);
      const place = part("words");
      place.hidden = false;
      place.replaceChildren();
      words.forEach(({ 0: word }, each) => {
        const weight = weights[each];
        const is = Math.abs(weight) >= LEAST ? "mark" : "span";
        const element = Object.assign(document.createElement(is), { textContent: word });
        if (is === "mark") {
          element.classList.toggle("against", weight < 0);
          element.style.setProperty("--share", Math.abs(weight) / most);
          const said = document.createElement("small");
          said.textContent = `${weight < 0 ? "−" : "+"}${Math.abs(weight).toFixed(2)}`;
          element.append(said);
        }
        place.append(element, " ");
      });
      const marked = place.querySelectorAll("mark").length;
      return `${marked} of ${words.length} words matter for ${label}.`;
    },
  };
}

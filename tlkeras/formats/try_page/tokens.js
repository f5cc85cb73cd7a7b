// The answer of tags: the words of a text, coloured by what they are.

import { colour } from "./colours.js";
import { list } from "./results.js";
import { NONE, split, tagger } from "./scheme.js";
import { part } from "./status.js";

export const promise = "what its words are";

export function open({ classes, output }, blank) {
  const name = output.names.tokens;
  if (output.shape.at(-1) !== classes.length) {
    throw new Error(`it has ${output.shape.at(-1)} outputs a word for ${classes.length} classes.`);
  }
  const rows = blank[name].length / classes.length;
  const known = [...new Set(classes.map((tag) => split(tag).kind))].filter((kind) => kind !== NONE);
  const tagsOf = tagger(classes);
  const seen = (values, row) => {
    const from = row * classes.length;
    const scores = row < rows ? [...values.subarray(from, from + classes.length)] : [];
    return scores.some((score) => score > 0) ? scores : null;
  };
  return (served, { words }) => {
    list([]);
    const place = part("words");
    place.hidden = false;
    place.replaceChildren();
    const tags = tagsOf(words.map((_, row) => seen(served[name], row)));
    let count = 0;
    words.forEach((word, row) => {
      const tag = tags[row];
      const element = document.createElement("span");
      element.textContent = word;
      element.className = tag ? "word" : "unread";
      element.dataset.tag = tag;
      if (tag && tag !== NONE) {
        count++;
        const { code, ink } = colour(known.indexOf(split(tag).kind));
        element.style.setProperty("--colour", code);
        element.style.setProperty("--ink", ink);
        element.classList.add("tagged");
        const label = document.createElement("small");
        label.textContent = tag;
        element.append(label);
      }
      place.append(element, " ");
    });
    return count ? `Tagged: ${count} of ${words.length} words.` : "No word is tagged.";
  };
}

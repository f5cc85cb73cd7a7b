// The answer of tags: the words of a text, coloured by what they are.

import { colour } from "./colours.js";
import { list } from "./results.js";
import { part } from "./status.js";

const NONE = "O"; // The tag of a word that is of no entity.

export const promise = "what its words are";

export function open({ classes, output }, blank) {
  const name = output.names.tokens;
  if (output.shape.at(-1) !== classes.length) {
    throw new Error(`it has ${output.shape.at(-1)} outputs a word for ${classes.length} classes.`);
  }
  const rows = blank[name].length / classes.length;
  // Of "B-place" and "I-place" both are a place; the letters are those of the measures of entities.
  const kinds = classes.map((tag) => (/^[BIMELSU]-./.test(tag) ? tag.slice(2) : tag));
  const known = [...new Set(kinds.filter((kind) => kind !== NONE))];
  return (served, { words }) => {
    list([]);
    const place = part("words");
    place.hidden = false;
    place.replaceChildren();
    let count = 0;
    words.forEach((word, row) => {
      const from = row * classes.length;
      const scores = row < rows ? served[name].subarray(from, from + classes.length) : [0];
      const most = Math.max(...scores);
      const tag = most > 0 ? scores.indexOf(most) : -1;
      const element = document.createElement("span");
      element.textContent = word;
      element.className = tag < 0 ? "unread" : "word";
      element.dataset.tag = tag < 0 ? "" : classes[tag];
      if (tag >= 0 && classes[tag] !== NONE) {
        count++;
        const { code, ink } = colour(known.indexOf(kinds[tag]));
        element.style.setProperty("--colour", code);
        element.style.setProperty("--ink", ink);
        element.classList.add("tagged");
        const label = document.createElement("small");
        label.textContent = classes[tag];
        element.append(label);
      }
      place.append(element, " ");
    });
    return count ? `Tagged: ${count} of ${words.length} words.` : "No word is tagged.";
  };
}

// The list of results: a name, a number and a bar in each row.

import { part } from "./status.js";

export const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1 });

/**
 * Shows shares in [0, 1], and nothing else; rows stay the elements that they are.
 *
 * A row is `{name, share, colour}`, the last left out where nothing is drawn in a colour.
 */
export function list(rows) {
  const place = part("results");
  while (place.children.length < rows.length) place.append(made());
  while (place.children.length > rows.length) place.lastChild.remove();
  rows.forEach(({ name, share, colour }, rank) => {
    const item = place.children[rank];
    const [label, value, bar] = item.children;
    label.textContent = name;
    if (colour) label.append(" ", Object.assign(made("small"), { textContent: colour.name }));
    item.classList.toggle("coloured", Boolean(colour));
    item.style.setProperty("--colour", colour ? colour.code : "");
    value.value = share;
    value.textContent = percent.format(share);
    bar.style.setProperty("--share", share);
  });
}

function made(tag) {
  if (tag) return document.createElement(tag);
  const item = made("li");
  for (const [tag, kind] of [["span", "class"], ["data", ""], ["div", "bar"]]) {
    item.append(Object.assign(made(tag), { className: kind }));
  }
  return item;
}

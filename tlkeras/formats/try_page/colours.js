// Colours of classes, far from each other and easily named.

const BASE = [
  ["red", "#e6194b"], ["green", "#3cb44b"], ["blue", "#4363d8"], ["yellow", "#ffe119"],
  ["magenta", "#f032e6"], ["cyan", "#42d4f4"], ["orange", "#f58231"], ["purple", "#911eb4"],
  ["maroon", "#800000"], ["lime", "#bfef45"], ["navy", "#000075"], ["pink", "#fabed4"],
  ["teal", "#469990"], ["brown", "#9a6324"], ["lavender", "#dcbeff"], ["olive", "#808000"],
  ["mint", "#aaffc3"], ["apricot", "#ffd8b1"], ["grey", "#a9a9a9"], ["white", "#ffffff"],
];

/** Returns the colour of a class by its number: name, code, its parts in [0, 255], ink upon it. */
export function colour(number) {
  // With more classes a colour is of several: then the names beside them tell those apart.
  const [name, code] = BASE[number % BASE.length];
  const parts = [1, 3, 5].map((start) => Number.parseInt(code.slice(start, start + 2), 16));
  return { name, code, parts, ink: luminance(parts) > 0.18 ? "#000000" : "#ffffff" };
}

/** Returns the relative luminance as WCAG defines it; at 0.18 black and white are equally clear. */
function luminance(parts) {
  const [red, green, blue] = parts.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

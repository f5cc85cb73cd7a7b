// The answer of a number, or of several.

import { list } from "./results.js";

export const promise = "its number";

export function open({ output }) {
  const shown = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });
  return (served) => {
    list([]);
    const numbers = Array.from(served[output.names.vector], (each) => shown.format(each));
    return `${numbers.length === 1 ? "The number is" : "The numbers are"} ${numbers.join(", ")}.`;
  };
}

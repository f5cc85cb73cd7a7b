// The answer of a number, or of several.

import { list } from "./results.js";

export const promise = "its number";

export function open({ output }) {
  // A float32 has about seven.
  const shown = new Intl.NumberFormat("en", { maximumSignificantDigits: 7 });
  return (served) => {
    list([]);
    const numbers = Array.from(served[output.names.vector], (each) => shown.format(each));
    return `${numbers.length === 1 ? "The number is" : "The numbers are"} ${numbers.join(", ")}.`;
  };
}

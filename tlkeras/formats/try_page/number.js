// The answer of a number.

import { list } from "./results.js";

export const promise = "its number";

export function open({ output }) {
  const shown = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });
  return (served) => {
    list([]);
    return `The number is ${shown.format(served[output.names.vector][0])}.`;
  };
}

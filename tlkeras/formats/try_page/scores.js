// The answer of classes: the most probable ones, as bars.

import { list, percent } from "./results.js";
import { offer } from "./why.js";

const SHOWN = 5; // Classes.

export const promise = "its class";

export function open({ classes, output }, blank) {
  const name = output.names.scores;
  const count = blank[name].length;
  if (count !== classes.length) {
    throw new Error(`it has ${count} outputs for ${classes.length} classes.`);
  }
  return (served, { parts }) => {
    const scores = served[name];
    const order = Array.from(classes.keys()).sort((a, b) => scores[b] - scores[a]);
    const shown = order.slice(0, SHOWN);
    list(shown.map((place) => ({ name: classes[place], share: scores[place] })));
    const [best] = order;
    offer(parts, { now: scores[best], of: (other) => other[name][best] }, classes[best]);
    if (scores[order[0]] < output.abstains_below) {
      const most = `${classes[order[0]]}, ${percent.format(scores[order[0]])}`;
      return `Unknown: the most likely, ${most}, is below ${percent.format(output.abstains_below)}.`;
    }
    if (output.threshold === null) {
      return `Most likely ${classes[order[0]]}, ${percent.format(scores[order[0]])}.`;
    }
    const held = order.filter((place) => scores[place] >= output.threshold);
    return held.length ? `Labels: ${held.map((place) => classes[place]).join(", ")}.` : "No label.";
  };
}

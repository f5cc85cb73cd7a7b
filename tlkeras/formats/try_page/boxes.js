// The answer of boxes: objects, drawn over the picture with their names and scores.

import { colour } from "./colours.js";
import { list, percent } from "./results.js";
import { part, say } from "./status.js";

const LEAST = 0.3; // The score from which on boxes are shown at first.
const ROOM = 0.08; // Of the picture's height, for a label above its box.

export const promise = "the objects in it";

export function open({ classes, output }) {
  part("answer").prepend(part("threshold").content.cloneNode(true));
  const slider = part("least");
  slider.value = LEAST;
  let last = null;

  const draw = () => {
    part("least-shown").textContent = percent.format(slider.valueAsNumber);
    const shown = last.objects.filter((each) => each.score >= slider.valueAsNumber);
    // Those of higher scores lie above.
    last.layer.replaceChildren(...shown.map((each) => frame(each, classes)).reverse());
    list(shown.map(({ category, score }) => ({
      name: classes[category], share: score, colour: colour(category),
    })));
    const counts = new Map();
    for (const { category } of shown) counts.set(category, (counts.get(category) ?? 0) + 1);
    const parts = [...counts].map(([category, count]) => `${count}\u00a0×\u00a0${classes[category]}`);
    return parts.length ? `Found: ${parts.join(", ")}.` : "No object of this score is in it.";
  };

  slider.addEventListener("input", () => {
    if (last) say(draw());
  });
  return (served, { layer }) => {
    const [boxes, categories, scores, [count]] = ["boxes", "category", "scores", "count"].map(
      (meaning) => served[output.names[meaning]],
    );
    const objects = Array.from({ length: Math.round(count) }, (_, place) => ({
      box: Array.from(boxes.subarray(4 * place, 4 * place + 4)),
      category: Math.round(categories[place]),
      score: scores[place],
    }));
    last = { objects, layer };
    return draw();
  };
}

/** Returns the element of a box; what is right of the middle has its label at the right. */
function frame({ box: [top, left, bottom, right], category, score }, classes) {
  const { code, ink } = colour(category);
  const element = document.createElement("div");
  const sides = { top, left, height: bottom - top, width: right - left };
  for (const [side, share] of Object.entries(sides)) {
    element.style.setProperty(side, `${100 * share}%`);
  }
  element.style.setProperty("--colour", code);
  element.style.setProperty("--ink", ink);
  element.className = "box";
  element.classList.toggle("inside", top < ROOM);
  element.classList.toggle("right", left + right > 1);
  element.dataset.box = [top, left, bottom, right].join();
  element.dataset.category = classes[category];
  element.dataset.score = score;
  const label = document.createElement("span");
  label.textContent = `${classes[category]} ${percent.format(score)}`;
  element.append(label);
  return element;
}

// The page: what a user gives, through the network, and the answer shown.

import { json } from "./files.js";
import { load } from "./network.js";
import { complain, part, say } from "./status.js";
import { withdraw } from "./why.js";

/**
 * By the kind of input: modules with what they `ask`, the `words` for times, the `fact` of a model,
 * and `open(input, run, show, clear)`, which lets the controls of `controls` work.
 */
const INPUTS = { picture: () => import("./picture.js"), text: () => import("./text.js") };

/**
 * By the kind of answer: modules with what they `promise` and `open(about, blank, again)`, which
 * returns a function from what the network served, and its source, to a sentence.
 */
const OUTPUTS = {
  boxes: () => import("./boxes.js"),
  mask: () => import("./mask.js"),
  number: () => import("./number.js"),
  scores: () => import("./scores.js"),
  tokens: () => import("./tokens.js"),
};

part("unserved").remove();
try {
  const about = await json("model.json");
  const { module: reads, ...given } = about.input;
  const input = await INPUTS[reads]();
  const output = await OUTPUTS[about.output.module]();
  part("input").append(part(input.controls).content.cloneNode(true));
  describe(about, input.fact(given), await pushed());
  const [run, blank] = await load(about.bytes, given.tensors);
  const draw = output.open(about, blank);
  label(input.words);
  await input.open(given, run, (found, source) => {
    const sentence = draw(found.served, source);
    time(found);
    return sentence;
  }, clear);
  part("input").disabled = false;
  say(`${input.ask} to see ${output.promise}.`);
} catch (error) {
  complain(`The model cannot be run: ${error.message}`);
}

/** Returns the manifest of the pushed version that this folder lies in; null if it was moved. */
async function pushed() {
  const found = await json("../manifest.json").catch(() => null);
  return found?.products ? found : null; // That of another application has none.
}

function describe(about, fact, manifest) {
  const name = manifest ? manifest.name : about.network;
  const count = about.classes.length;
  document.title = `Try ${name}`;
  part("name").textContent = name;
  part("facts").textContent = [
    ...(manifest ? [`version ${manifest.version}`] : []),
    `${about.network} ${fact}`,
    ...(count ? [count === 1 ? "1 class" : `${count} classes`] : []),
    `${(about.bytes / 1e6).toFixed(1)} MB`,
  ].join(" · ");
  part("runtime").textContent = about.runtime;
}

function label({ whole, preparing }) {
  part("whole").textContent = `Time for the ${whole}`;
  part("preparation").textContent = preparing;
}

function time({ preparing, running }) {
  part("total").textContent = milliseconds(preparing + running);
  part("preparing").textContent = milliseconds(preparing);
  part("running").textContent = milliseconds(running);
  part("answer").hidden = part("times").hidden = false;
}

function milliseconds(time) {
  return `${time.toFixed(time < 10 ? 1 : 0)} ms`;
}

function clear() {
  withdraw();
  part("answer").hidden = part("times").hidden = true;
}

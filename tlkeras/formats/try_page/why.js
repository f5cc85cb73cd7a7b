// What an answer rests on: parts of what was given are left out in turn.
//
// By how much the score of the likeliest class falls without a part is the weight of that part. A
// network in a browser has no gradients, so this is not the heat of the report.

import { part, say } from "./status.js";

let turn = 0; // Counts the answers; what is left of an older one is dropped.

/**
 * Offers to show what an answer rests on; takes the offer for the answer before away.
 *
 * `parts` is `{count, without, paint}`: the network's answer without a part of a number, and what
 * shows the weights, an array, and returns a sentence about them. Without it nothing is offered.
 */
export function offer(parts, score, name) {
  const mine = ++turn;
  const button = part("why");
  part("rests").hidden = true;
  button.hidden = !parts;
  button.disabled = false;
  button.onclick = async () => {
    button.disabled = true;
    say("Looking…");
    try {
      const weights = [];
      for (let each = 0; each < parts.count; each++) {
        weights.push(score.now - score.of(await parts.without(each)));
        if (mine !== turn) return;
      }
      say(parts.paint(weights, name));
      button.hidden = true;
      part("rests").hidden = false;
    } catch (error) {
      if (mine === turn) say(`It cannot be told: ${error.message}`);
    }
  };
}

/** Takes an offer away. */
export function withdraw() {
  turn++;
  part("why").hidden = part("rests").hidden = true;
}

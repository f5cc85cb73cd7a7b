// The answer of a mask: the class of every pixel, drawn over the picture.

import { colour } from "./colours.js";
import { list, percent } from "./results.js";

const OPACITY = 150; // Of 255.
const MOST = 2 ** 22; // Pixels that are drawn; those of a larger picture are fewer, spread over it.

export const promise = "what its pixels are";

export function open({ classes, output }, blank) {
  const name = output.names.mask;
  const names = [...output.others, ...classes];
  const [, high, wide, deep] = output.shape;
  if (names.length !== deep || blank[name].length !== high * wide * deep) {
    const each = blank[name].length / (high * wide);
    throw new Error(`it has ${each} outputs a pixel for ${names.length} classes.`);
  }
  const canvas = document.createElement("canvas");
  const first = output.others.length;
  const colours = names.map((_, place) => (place < first ? null : colour(place - first)));
  const inks = Uint32Array.from(colours, (each) => (each ? ink(each.parts) : 0));
  return (served, { width: across, height: down, layer }) => {
    const shrunk = Math.min(1, Math.sqrt(MOST / (across * down)));
    const width = Math.max(1, Math.floor(across * shrunk));
    const height = Math.max(1, Math.floor(down * shrunk));
    const found = categories(served[name], [high, wide, deep], height, width);
    const counts = new Array(deep).fill(0);
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let pixel = 0; pixel < found.length; pixel++) {
      counts[found[pixel]]++;
      pixels[pixel] = inks[found[pixel]];
    }
    if (canvas.width !== width || canvas.height !== height) {
      [canvas.width, canvas.height] = [width, height];
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    if (canvas.parentElement !== layer) layer.append(canvas);
    const order = Array.from(counts.keys()).filter((place) => counts[place]);
    order.sort((a, b) => counts[b] - counts[a]);
    const rows = order.map((place) => ({
      name: names[place],
      share: counts[place] / (width * height),
      colour: colours[place],
    }));
    list(rows);
    const largest = rows.find((row) => row.colour);
    if (!largest) return "No class is in it.";
    return `The largest part is ${largest.name}, ${percent.format(largest.share)} of the pixels.`;
  };
}

/**
 * Returns the most probable class of every pixel of a picture, Uint8Array [height, width].
 *
 * The probabilities, [high, wide, deep], are enlarged between their places, as
 * `tf.image.resize(mask, [height, width])` does.
 */
export function categories(scores, [high, wide, deep], height, width) {
  const best = new Uint8Array(high * wide);
  for (let place = 0; place < best.length; place++) {
    const from = place * deep;
    let most = 0;
    for (let c = 1; c < deep; c++) if (scores[from + c] > scores[from + most]) most = c;
    best[place] = most;
  }
  const across = neighbours(wide, width);
  const down = neighbours(high, height);
  const found = new Uint8Array(height * width);
  for (let y = 0, to = 0; y < height; y++) {
    const [top, bottom, below] = down[y];
    for (let x = 0; x < width; x++, to++) {
      const [left, right, behind] = across[x];
      const one = top * wide + left, two = top * wide + right;
      const three = bottom * wide + left, four = bottom * wide + right;
      found[to] = best[one];
      // What is the most probable all around is so in between.
      if (best[one] === best[two] && best[one] === best[three] && best[one] === best[four]) continue;
      let most = -1;
      for (let c = 0; c < deep; c++) {
        const a = scores[one * deep + c], b = scores[three * deep + c];
        const upper = a + (scores[two * deep + c] - a) * behind;
        const lower = b + (scores[four * deep + c] - b) * behind;
        const mean = upper + (lower - upper) * below;
        if (mean > most) [most, found[to]] = [mean, c];
      }
    }
  }
  return found;
}

/** Returns the four bytes of a pixel as they lie in memory, which is little-endian wherever this runs. */
function ink([red, green, blue]) {
  return ((OPACITY << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** Returns, for each of `to` places on a side of `from`, the two beside it and how near the second is. */
function neighbours(from, to) {
  return Array.from({ length: to }, (_, place) => {
    const middle = ((place + 0.5) * from) / to - 0.5;
    const first = Math.floor(middle);
    return [Math.max(first, 0), Math.min(first + 1, from - 1), middle - first];
  });
}

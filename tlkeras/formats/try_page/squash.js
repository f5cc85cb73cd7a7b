// What `squash` of tlkeras/images/pixels.py does, so that the network sees here what it was trained on.

/** Pixels that are read at once. A phone's picture has more than WebKit's canvas, at most 2 ** 24. */
export const BAND = 2 ** 22;

/**
 * Returns float32 [size, size, 3] in [0, 255] of a picture.
 *
 * `read(top, rows)` returns the RGBA bytes of rows of the picture, row after row.
 *
 * The whole picture, its sides scaled apart. Every pixel of the result is the mean of those around
 * its place, weighted by a triangle that reaches as far as pixels of the result lie apart, at least
 * to the next pixel of the picture.
 */
export function squash(read, width, height, size) {
  const across = triangles(width, size);
  const down = triangles(height, size);
  const narrow = new Float32Array(height * size * 3);
  const band = Math.max(1, Math.floor(BAND / width));
  for (let top = 0, to = 0; top < height; top += band) {
    const rows = Math.min(band, height - top);
    const rgba = read(top, rows);
    for (let y = 0; y < rows; y++) {
      for (const { first, weights } of across) {
        let red = 0, green = 0, blue = 0;
        let from = 4 * (y * width + first);
        for (const weight of weights) {
          red += weight * rgba[from];
          green += weight * rgba[from + 1];
          blue += weight * rgba[from + 2];
          from += 4;
        }
        narrow[to++] = red;
        narrow[to++] = green;
        narrow[to++] = blue;
      }
    }
  }
  const row = 3 * size;
  const squashed = new Float32Array(size * row);
  down.forEach(({ first, weights }, y) => {
    weights.forEach((weight, i) => {
      const from = (first + i) * row;
      for (let x = 0; x < row; x++) squashed[y * row + x] += weight * narrow[from + x];
    });
  });
  return squashed;
}

/** Returns, for each of `to` places on a side of `from` pixels, the first that counts and weights. */
function triangles(from, to) {
  const step = from / to;
  const reach = Math.max(step, 1);
  return Array.from({ length: to }, (_, place) => {
    const middle = (place + 0.5) * step;
    const first = Math.max(0, Math.ceil(middle - reach - 0.5));
    const last = Math.min(from - 1, Math.floor(middle + reach - 0.5));
    const heights = Array.from(
      { length: last - first + 1 },
      (_, i) => Math.max(0, 1 - Math.abs(first + i + 0.5 - middle) / reach),
    );
    const sum = heights.reduce((one, other) => one + other);
    return { first, weights: Float32Array.from(heights, (height) => height / sum) };
  });
}

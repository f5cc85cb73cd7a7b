// Heat over a picture: the colours of tlkeras/images/heat.py.

// Red, green, blue and opacity at the lowest, the middle and the highest value.
const COLOURS = [[0, 34, 78, 165], [124, 123, 120, 100], [254, 232, 56, 140]];

const ROWS = ["at the top", "", "at the bottom"];
const COLUMNS = ["left", "", "right"];

/** Returns a canvas of `side` by `side` weights; 0 and below is lowest, the largest highest. */
export function drawn(weights, side) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const image = new ImageData(side, side);
  const most = Math.max(...weights, Number.MIN_VALUE);
  weights.forEach((weight, place) => image.data.set(coloured(Math.max(weight, 0) / most), 4 * place));
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** Returns where the largest of `side` by `side` weights is, in words. */
export function where(weights, side) {
  const place = weights.indexOf(Math.max(...weights));
  const third = (at) => Math.min(Math.floor((3 * (at + 0.5)) / side), 2);
  const [row, column] = [third(Math.floor(place / side)), third(place % side)];
  if (row === 1 && column === 1) return "in the middle";
  return row === 1 ? `at the ${COLUMNS[column]}` : `${ROWS[row]} ${COLUMNS[column]}`.trim();
}

function coloured(level) {
  const from = level < 0.5 ? 0 : 1;
  const share = 2 * level - from;
  return COLOURS[from].map((low, each) => low + share * (COLOURS[from + 1][each] - low));
}

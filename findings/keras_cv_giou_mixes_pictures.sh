#!/usr/bin/env bash
# KerasCV 0.9.0: GIoULoss takes boxes of a batch, [pictures, boxes, 4], without an error and is
# wrong on them. It computes every pair of boxes of a picture, [pictures, boxes, boxes], and then
# takes the diagonal of the first two axes, those of pictures and boxes, instead of the last two: box
# i of picture i with every box of that picture. So the values of most boxes are missing, and there
# are as many rows as the smaller of both numbers. Of one picture, [boxes, 4], it is right. Boxes
# need no pairs for their own loss: of a grid of 1,344 cells the pairs are 1.8 million a picture.
# Seen when this was written (Python 3.11, three pictures of five boxes, each compared with itself,
# so that every loss is 0):
#   one picture: shape (5,), largest loss 0.00
#   three pictures: shape (5,), largest loss 1.25; expected (3,) of 0.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
  tensorflow==2.21.0 keras==3.15.1 keras-cv==0.9.0
cat > "$folder/giou.py" <<'PYTHON'
import keras_cv
import numpy as np

corners = np.random.default_rng(0).uniform(0, 1, (3, 5, 2, 2)).astype("float32")
corners.sort(axis=2)
boxes = corners.reshape(3, 5, 4)


def losses(one, axis):
    loss = keras_cv.losses.GIoULoss("yxyx", axis=axis, reduction="none")
    return np.asarray(loss(one, one))


single, batch = losses(boxes[0], "no_reduction"), losses(boxes, -1)
print(f"one picture: shape {single.shape}, largest loss {np.abs(single).max():.2f}")
print(
    f"three pictures: shape {batch.shape}, largest loss {np.abs(batch).max():.2f}; "
    "expected (3,) of 0.00"
)
assert single.shape == (5,) and np.abs(single).max() < 1e-3
assert batch.shape != (3,) and np.abs(batch).max() > 0.1
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" -W ignore "$folder/giou.py"

#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: `keras.ops.add(x, y)` gives wrong numbers, without an error,
# where y has the shape [1, n, 1] and x [b, n, n]. It takes any y with one axis longer than 1 for a
# bias and adds it along the last axis of x, not along the axis where it stands. NumPy, and `x + y`
# of the same tensors in TensorFlow, broadcast along the middle axis.
# Seen when this was written (Python 3.11):
#   keras.ops.add: [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
#   numpy.add: [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow==2.21.0 keras==3.15.1
cat > "$folder/add.py" <<'PYTHON'
import keras
import numpy as np

x = np.zeros((2, 3, 3), np.float32)
y = np.array([[[1], [2], [3]]], np.float32)
found = np.asarray(keras.ops.add(x, y))[0].tolist()
expected = np.add(x, y)[0].tolist()
print("keras.ops.add:", found)
print("numpy.add:", expected)
assert expected == [[1.0] * 3, [2.0] * 3, [3.0] * 3]
assert found == [[1.0, 2.0, 3.0]] * 3
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=tensorflow "$folder/venv/bin/python" "$folder/add.py"

#!/usr/bin/env bash
# Keras 3.15.1: a functional model cannot be saved any more once another model was made of it that
# starts at one of its inputs and at a hidden tensor together, as `keras.Model([hidden, input],
# output)` for the second half of a network with two inputs does. Both models still give right
# numbers, but get_config and save of the first raise RuntimeError: making the second gives the
# input's tensor a second origin. A second half that starts at hidden tensors alone does no harm.
# Seen when this was written (Python 3.11):
#   before: written
#   after: RuntimeError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow==2.21.0 keras==3.15.1
cat > "$folder/cut.py" <<'PYTHON'
import keras
import numpy as np

one, other = keras.Input([4], name="one"), keras.Input([4], name="other")
hidden = keras.layers.Dense(4)(one)
model = keras.Model([one, other], keras.layers.Multiply()([hidden, other]))


def written():
    try:
        return "written" if model.get_config() else ""
    except RuntimeError as error:
        return type(error).__name__


before = written()
half = keras.Model([hidden, other], model.output)
after = written()
print("before:", before)
print("after:", after)
x = [keras.ops.ones((1, 4))] * 2
first = keras.Model(one, hidden)
assert np.array_equal(half([first(x[0]), x[1]]), model(x))
assert (before, after) == ("written", "RuntimeError")
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/cut.py"

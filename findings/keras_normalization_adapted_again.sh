#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: a `Normalization` layer has its mean and variance in a traced
# function as they were then. After `adapt` on other data, `model.predict` goes on with the old ones,
# and `evaluate` measures with them, while `model(x)`, `predict_on_batch` and the saved file have the
# new ones: one model with two answers, and no warning. `compile` makes them one.
# My guess was that the statistics are read as variables, like those of a batch norm.
# Seen when this was written (Python 3.11), for 105 after data of mean 5 and then of mean 105:
#   before: predict 20
#   adapted again: predict 20, called 0, on batch 0, evaluated mean 20, loaded 0
#   compiled anew: predict 0, evaluated mean 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow==2.21.0 keras==3.15.1
cat > "$folder/adapted.py" <<'PYTHON'
import sys

import keras
import numpy as np

norm = keras.layers.Normalization(axis=None)
model = keras.Sequential([keras.Input([1]), norm])
model.compile(loss="mae")
x, zero = np.array([[105.0]]), np.array([[0.0]])


def predicted():
    return round(model.predict(x, verbose=0).item())


def evaluated():
    return round(model.evaluate(x, zero, verbose=0))


norm.adapt(np.array([[0.0], [10.0]]))
print("before: predict", before := predicted())
evaluated()
norm.adapt(np.array([[100.0], [110.0]]))
model.save(sys.argv[1])
loaded = keras.models.load_model(sys.argv[1])
again = {
    "predict": predicted(),
    "called": round(float(model(x)[0, 0])),
    "on batch": round(model.predict_on_batch(x).item()),
    "evaluated mean": evaluated(),
    "loaded": round(loaded.predict(x, verbose=0).item()),
}
print("adapted again:", ", ".join(f"{name} {value}" for name, value in again.items()))
model.compile(loss="mae")
anew = predicted(), evaluated()
print(f"compiled anew: predict {anew[0]}, evaluated mean {anew[1]}")
assert (before, [*again.values()], anew) == (20, [20, 0, 0, 20, 0], (0, 0))
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=tensorflow "$folder/venv/bin/python" "$folder/adapted.py" "$folder/model.keras"

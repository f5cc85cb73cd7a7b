#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: `fit` opens a `tf.data` set whose size is known twice an epoch.
# At the end of each it opens the next one, and throws that away when the epoch begins. So a seeded
# shuffle gives it every second of its orders: a loop over the same data, or the same `fit` behind a
# filter, which hides the size, trains in others, and no seed makes them equal. A pipeline that takes
# long to open, as one with a large graph, takes that long twice. My guess was that an epoch of `fit`
# and a turn of a loop are the same.
# Seen when this was written (Python 3.11), orders as a plain loop over the same data counts them:
#   fit of 4 epochs: 1, 3, 5, 7
#   4 fits of one epoch: 1, 3, 5, 7
#   fit of 4 epochs, size unknown: 1, 2, 3, 4
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow==2.21.0 keras==3.15.1
cat > "$folder/orders.py" <<'PYTHON'
import keras
import tensorflow as tf


def shuffled(is_known):
    numbers = tf.data.Dataset.range(20).shuffle(20, seed=7)
    return numbers if is_known else numbers.filter(lambda number: True)


def orders_of_fit(is_known, calls):
    seen = []

    def note(number):
        seen.append(int(number))
        return number

    def pair(number):
        value = tf.cast(tf.py_function(note, [number], tf.int64), tf.float32)
        value.set_shape([])
        return value[None], value[None]

    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = shuffled(is_known).map(pair).batch(20)
    for epochs in calls:
        model.fit(data, epochs=epochs, verbose=0)
    return [seen[start : start + 20] for start in range(0, len(seen), 20)]


data = shuffled(True)
loop = [[int(number) for number in data] for _ in range(12)]
for name, is_known, calls in (
    ("fit of 4 epochs", True, [4]),
    ("4 fits of one epoch", True, [1] * 4),
    ("fit of 4 epochs, size unknown", False, [4]),
):
    places = [loop.index(order) + 1 for order in orders_of_fit(is_known, calls)]
    print(f"{name}: {places}".replace("[", "").replace("]", ""))
    assert places == ([1, 3, 5, 7] if is_known else [1, 2, 3, 4])
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=tensorflow "$folder/venv/bin/python" "$folder/orders.py"

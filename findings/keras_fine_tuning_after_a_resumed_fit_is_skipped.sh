#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: a training that `BackupAndRestore` took up again leaves its epoch
# in the model, and every later `fit` of that model begins there, with or without the callback, and
# whatever its own `initial_epoch` says. Transfer learning calls `fit` twice: the head first, then all
# layers. If the first one was interrupted after 3 of its 5 epochs and taken up, a fine-tuning of 3
# epochs does nothing at all: no weight moves, the history is empty, and there is no warning. One of 5
# epochs does 2. A job that was never interrupted does them all, so it shows only where a machine was
# taken away in the middle, which is what the callback is for, and its result cannot be told from
# one of a fine-tuning that did not help. The documentation says that the callback deletes its
# backup when the training ends; the epoch in the model is not part of that. What helps: a new model
# object for the second `fit`, or `model._initial_epoch = None` before it, which is no public name.
# One would expect that each call of `fit` does the epochs that it was asked for.
# Seen when this was written (Python 3.11), fine-tuning after 5 epochs of the head:
#   never interrupted: epochs 3 of 3, weights moved
#   interrupted:       epochs 0 of 3, weights not moved
#   interrupted:       epochs 2 of 5, weights moved
#   initial_epoch=1:   epochs 0 of 2, weights not moved
#   set to None:       epochs 3 of 3, weights moved
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow==2.21.0 keras==3.15.1
cat > "$folder/resumed.py" <<'PYTHON'
import os
import sys

import keras
import numpy as np

random = np.random.default_rng(0)
x, y = random.normal(size=(64, 4)), random.normal(size=(64, 1))
folders = iter(range(100))


class Taken(keras.callbacks.Callback):
    """The machine is taken away after three epochs."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt


def network():
    body = keras.layers.Dense(8, activation="tanh", trainable=False)
    model = keras.Sequential([keras.Input([4]), body, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def tuned(interrupted, epochs, reset=False, **settings):
    folder = os.path.join(sys.argv[1], str(next(folders)))
    saver = keras.callbacks.BackupAndRestore(folder)
    if interrupted:
        try:
            network().fit(x, y, epochs=5, verbose=0, callbacks=[saver, Taken()])
        except KeyboardInterrupt:
            pass
        saver = keras.callbacks.BackupAndRestore(folder)
    model = network()
    head = model.fit(x, y, epochs=5, verbose=0, callbacks=[saver])
    assert head.epoch == ([3, 4] if interrupted else [0, 1, 2, 3, 4])
    assert not os.path.exists(os.path.join(folder, "training_metadata.json"))
    model.layers[0].trainable = True
    model.compile("sgd", "mse")
    before = model.get_weights()
    if reset:
        model._initial_epoch = None
    history = model.fit(x, y, epochs=epochs, verbose=0, **settings)
    moved = any((old != new).any() for old, new in zip(before, model.get_weights()))
    return len(history.epoch), moved


cases = {
    "never interrupted": (3, tuned(False, 3)),
    "interrupted": (3, tuned(True, 3)),
    "interrupted ": (5, tuned(True, 5)),
    "initial_epoch=1": (2, tuned(True, 3, initial_epoch=1)),
    "set to None": (3, tuned(True, 3, reset=True)),
}
for name, (asked, (done, moved)) in cases.items():
    state = "moved" if moved else "not moved"
    print(f"{name.strip() + ':':18} epochs {done} of {asked}, weights {state}")
found = [(done, moved) for _, (done, moved) in cases.values()]
assert found == [(3, True), (0, False), (2, True), (0, False), (3, True)]
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/resumed.py" "$folder/backups"

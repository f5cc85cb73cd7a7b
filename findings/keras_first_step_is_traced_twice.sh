#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: `fit` and `train_on_batch` trace the training step twice for a
# batch of one shape, because the first trace makes the optimizer's variables, and TensorFlow then
# traces again without them. `optimizer.build` before the first step leaves one trace, but not
# where `compile` got metrics, which make variables in the first trace, too. With AdamW and all 158
# variables of a small MobileNetV2 trained, the first step took 17 s, and 10 s with the built
# optimizer, on two cores.
# Seen when this was written (Python 3.11): traces of the step
#   fit: 2, with a built optimizer 1, with a built optimizer and a metric 2
#   train_on_batch: 2, with a built optimizer 1, with a built optimizer and a metric 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow==2.21.0 keras==3.15.1
cat > "$folder/traces.py" <<'PYTHON'
import keras
import numpy as np


class Counted(keras.Sequential):
    traces = 0

    def compute_loss(self, *given, **named):
        self.traces += 1
        return super().compute_loss(*given, **named)


def traces(steps, is_built, metrics):
    model = Counted([keras.Input([8]), keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=metrics)
    if is_built:
        model.optimizer.build(model.trainable_variables)
    steps(model)
    return model.traces


x, y = np.zeros((64, 8), np.float32), np.zeros((64, 1), np.float32)
ways = {
    "fit": lambda model: model.fit(x, y, batch_size=32, epochs=3, verbose=0),
    "train_on_batch": lambda model: [model.train_on_batch(x, y) for _ in range(3)],
}
for name, steps in ways.items():
    found = [traces(steps, *how) for how in ((False, []), (True, []), (True, ["mae"]))]
    print(f"{name}: {found[0]}, with a built optimizer {found[1]}, with a built optimizer and a metric {found[2]}")
    assert found == [2, 1, 2]
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=tensorflow "$folder/venv/bin/python" "$folder/traces.py"

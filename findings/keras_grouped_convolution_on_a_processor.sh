#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0, processor: `Conv2D` with a group for each channel, such as
# ConvNeXt's 7 x 7 convolutions, has the arithmetic of `DepthwiseConv2D` and takes many times as
# long. TensorFlow has no kernel of grouped convolutions for processors, so Keras compiles each such
# layer with XLA, whose code for it is slow. The same weights as a depthwise convolution give the same
# outputs.
# Seen when this was written (Python 3.11, two cores, 40 x 40 places, 96 channels, 8 rows):
#   Conv2D(groups=96) takes 51 times as long as DepthwiseConv2D
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow==2.21.0 keras==3.15.1
cat > "$folder/grouped.py" <<'PYTHON'
import time

import keras
import numpy as np
import tensorflow as tf

CHANNELS = 96
x = tf.random.normal([8, 40, 40, CHANNELS], seed=0)
grouped = keras.layers.Conv2D(CHANNELS, 7, groups=CHANNELS, padding="same")
depthwise = keras.layers.DepthwiseConv2D(7, padding="same")
for layer in (grouped, depthwise):
    layer.build(x.shape)
kernel, bias = grouped.get_weights()
depthwise.set_weights([kernel.reshape(7, 7, CHANNELS, 1), bias])


def best(layer):
    run = tf.function(layer)
    outputs, seconds = run(x), []
    for _ in range(4):
        start = time.perf_counter()
        np.asarray(run(x))
        seconds.append(time.perf_counter() - start)
    return np.asarray(outputs), min(seconds)


(one, slow), (other, fast) = best(grouped), best(depthwise)
print(f"Conv2D(groups={CHANNELS}) takes {slow / fast:.0f} times as long as DepthwiseConv2D")
np.testing.assert_allclose(one, other, atol=1e-3)
assert slow > 5 * fast
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=tensorflow "$folder/venv/bin/python" "$folder/grouped.py"

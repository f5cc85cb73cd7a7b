#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: a `BatchNormalization` of maps in training is not TensorFlow's
# fused kernel, as it was in Keras 2 (`fused=True`), but a mean, a variance and the arithmetic, each
# an operation of its own, forward and backward. On two cores, maps [16, 64, 64, 48] took 36 ms of
# processor time forward and backward, and 8 ms by `FusedBatchNormV3`, which gives the same numbers
# (off by 2e-6 of the largest gradient).
# Seen when this was written (Python 3.11):
#   operations of the layer: Mean, Rsqrt, SquaredDifference; FusedBatchNormV3: 0
#   largest difference of the gradients: below 1e-4 of the largest
#   processor time, layer to kernel: 3 to 5, with other work beside it 2 to 4
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow==2.21.0 keras==3.15.1
cat > "$folder/norms.py" <<'PYTHON'
import time

import keras
import tensorflow as tf

maps = tf.random.normal([16, 64, 64, 48], mean=1)
slopes = tf.random.normal(maps.shape)
layer = keras.layers.BatchNormalization()
layer.build(maps.shape)


@tf.function
def by_layer():
    with tf.GradientTape() as tape:
        tape.watch(maps)
        found = layer(maps, training=True)
    return tape.gradient(found, maps, slopes)


@tf.function
def by_kernel():
    with tf.GradientTape() as tape:
        tape.watch(maps)
        found, *_ = tf.compat.v1.nn.fused_batch_norm(
            maps, layer.gamma.value, layer.beta.value, epsilon=layer.epsilon, is_training=True
        )
    return tape.gradient(found, maps, slopes)


def seconds(run):
    run()
    start = time.process_time()
    for _ in range(20):
        run()
    return time.process_time() - start


kinds = {each.type for each in by_layer.get_concrete_function().graph.get_operations()}
watched = ("FusedBatchNormV3", "Mean", "Rsqrt", "SquaredDifference")
print("operations of the layer:", ", ".join(kind for kind in watched if kind in kinds))
one, other = by_layer(), by_kernel()
off = float(tf.reduce_max(abs(one - other)) / tf.reduce_max(abs(other)))
print(f"largest difference of the gradients: {off:.0e} of the largest")
ratio = min(seconds(by_layer) for _ in range(3)) / min(seconds(by_kernel) for _ in range(3))
print(f"processor time, layer to kernel: {ratio:.1f}")
assert "FusedBatchNormV3" not in kinds and set(watched[1:]) <= kinds
assert off < 1e-4
assert ratio > 1.5
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/norms.py" 2>/dev/null

#!/usr/bin/env bash
# tf2onnx 1.17.0 writes `tf.scatter_nd` as ONNX's ScatterND without a reduction. TensorFlow adds up
# what goes to one place, as its documentation says, and `keras.ops.scatter` does; the converted
# network keeps what came last. The vector of a word is then that of its last piece instead of the sum
# of its pieces, a bag of words knows no counts, and `tf.math.confusion_matrix`, which is made of it,
# counts nothing twice. There is no warning, neither from tf2onnx nor from onnxruntime 1.32.0, and a
# text whose words have one piece each comes out right. `tf.tensor_scatter_nd_add` into zeros is right.
# `tf.math.unsorted_segment_sum` adds up, but a piece of no word, marked -1, is left out by TensorFlow
# and lands in the last row of the converted network.
# My guess was sums in all of these, and left out pieces.
# Seen when this was written (Python 3.11, TensorFlow 2.21.0): pieces 1 to 6 of the words 0 0 1 2 2 3,
# in the last row -1 instead of 3
#   scatter_nd: TensorFlow [3, 3, 9, 6, 0], ONNX [2, 3, 5, 6, 0]
#   keras.ops.scatter: TensorFlow [3, 3, 9, 6, 0], ONNX [2, 3, 5, 6, 0]
#   bag of words: TensorFlow [2, 1, 2, 1, 0], ONNX [1, 1, 1, 1, 0]
#   diagonal of confusion_matrix: TensorFlow [2, 1, 2, 1, 0], ONNX [1, 1, 1, 1, 0]
#   tensor_scatter_nd_add: TensorFlow [3, 3, 9, 6, 0], ONNX [3, 3, 9, 6, 0]
#   unsorted_segment_sum: TensorFlow [3, 3, 9, 0, 0], ONNX [3, 3, 9, 0, 6]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
  tensorflow==2.21.0 keras==3.15.1 tf2onnx==1.17.0 onnx==1.23.2 onnxruntime==1.32.0
cat > "$folder/words.py" <<'PYTHON'
import keras
import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx

signature = [
    tf.TensorSpec([None], tf.float32, name="pieces"),
    tf.TensorSpec([None], tf.int32, name="words"),
]
pieces = np.arange(1, 7, dtype=np.float32)
words = np.array([0, 0, 1, 2, 2, 3], np.int32)
marked = np.array([0, 0, 1, 2, 2, -1], np.int32)


def both(name, function, words):
    traced = tf.function(function, input_signature=signature)
    model, _ = tf2onnx.convert.from_function(traced, signature, opset=18)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    given = {"pieces": pieces, "words": words}
    taken = {each.name: given[each.name] for each in session.get_inputs()}
    (converted,) = session.run(None, taken)
    right = traced(pieces, words).numpy()
    if right.ndim == 2:
        right, converted = np.diagonal(right), np.diagonal(converted)
    right, converted = right.astype(int).tolist(), converted.astype(int).tolist()
    print(f"{name}: TensorFlow {right}, ONNX {converted}")
    return right, converted


summed, last = [3, 3, 9, 6, 0], [2, 3, 5, 6, 0]
counted, once = [2, 1, 2, 1, 0], [1, 1, 1, 1, 0]
assert both(
    "scatter_nd",
    lambda pieces, words: tf.scatter_nd(words[:, None], pieces, [5]),
    words,
) == (summed, last)
assert both(
    "keras.ops.scatter",
    lambda pieces, words: keras.ops.scatter(words[:, None], pieces, (5,)),
    words,
) == (summed, last)
assert both(
    "bag of words",
    lambda pieces, words: tf.scatter_nd(words[:, None], tf.ones_like(pieces), [5]),
    words,
) == (counted, once)
assert both(
    "diagonal of confusion_matrix",
    lambda pieces, words: tf.math.confusion_matrix(words, words, 5),
    words,
) == (counted, once)
assert both(
    "tensor_scatter_nd_add",
    lambda pieces, words: tf.tensor_scatter_nd_add(tf.zeros(5), words[:, None], pieces),
    words,
) == (summed, summed)
assert both(
    "unsorted_segment_sum",
    lambda pieces, words: tf.math.unsorted_segment_sum(pieces, words, 5),
    marked,
) == ([3, 3, 9, 0, 0], [3, 3, 9, 0, 6])
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/words.py"

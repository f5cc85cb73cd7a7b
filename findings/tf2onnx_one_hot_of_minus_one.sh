#!/usr/bin/env bash
# tf2onnx 1.17.0 writes TensorFlow's OneHot as ONNX's OneHot, and the two differ below 0: of -1
# TensorFlow gives a row of zeros, as its documentation says; ONNX counts it from the end, so that
# onnxruntime 1.32.0 marks the last class. There is no warning. A model that marks "none" by -1 and
# counts on zeros, as with `keras.ops.one_hot`, answers otherwise after the conversion.
# Seen when this was written (Python 3.11):
#   TensorFlow: [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
#   ONNX:       [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
  tensorflow==2.21.0 keras==3.15.1 tf2onnx==1.17.0 onnx==1.23.2 onnxruntime==1.32.0
cat > "$folder/one_hot.py" <<'PYTHON'
import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx

signature = [tf.TensorSpec([None], tf.int32, name="kinds")]


@tf.function(input_signature=signature)
def marked(kinds):
    return tf.one_hot(kinds, 3)


given = np.array([-1, 0, 3], np.int32)
model, _ = tf2onnx.convert.from_function(marked, signature, opset=18)
session = onnxruntime.InferenceSession(model.SerializeToString())
rows = marked(given).numpy().tolist()
(converted,) = session.run(None, {"kinds": given})
print("TensorFlow:", rows)
print("ONNX:      ", converted.tolist())
assert rows[0] == [0, 0, 0] and rows[1:] == converted.tolist()[1:]
assert converted.tolist()[0] == [0, 0, 1]
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/one_hot.py"

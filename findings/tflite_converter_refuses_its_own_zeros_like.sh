#!/usr/bin/env bash
# The TFLite converter of TensorFlow 2.21.0 fails on `tf.less(tf.cast(flags, tf.int32), 0)`, where
# flags are of bool. It finds out that a bool as a number is never below 0, and writes TFL's
# `zeros_like` of the bool tensor for the answer; then it refuses its own operation, which takes
# integers and floats alone. The message names an operation that nobody wrote. A comparison that can
# be true, `tf.less(..., 1)`, is converted.
# Seen when this was written (Python 3.11):
#   less than 1: converted
#   less than 0: ConverterError, names zeros_like: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow==2.21.0 keras==3.15.1
cat > "$folder/less.py" <<'PYTHON'
import tensorflow as tf


def converted(bound):
    @tf.function(input_signature=[tf.TensorSpec([1, 8], tf.int32)])
    def compare(x):
        return tf.less(tf.cast(tf.equal(x, 3), tf.int32), bound)

    concrete = compare.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], compare).convert()


assert converted(1)
print("less than 1: converted")
try:
    converted(0)
except Exception as error:
    named = "zeros_like" in str(error)
    print(f"less than 0: {type(error).__name__}, names zeros_like: {named}")
    assert type(error).__name__ == "ConverterError" and named
else:
    raise AssertionError("it is converted now")
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/less.py"

#!/usr/bin/env bash
# TensorFlow 2.21.0 and Keras 3.15.1: `tf.lite.TFLiteConverter.from_concrete_functions([function],
# model)` takes as second argument the object that owns the variables of the function, and asks for
# one in its documentation. With a Keras model there, it writes a file whose weights are not those of
# the model, without an error: a convolution with a batch norm gives NaN. Without the
# argument the file is right. `from_keras_model` of the same network is right, too.
# Seen when this was written (Python 3.11), for Keras's outputs [0.4, 0.4, 0.4]:
#   function alone: [0.4, 0.4, 0.4]
#   function and model: [nan, nan, nan]
#   from_keras_model: [0.4, 0.4, 0.4]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow==2.21.0 keras==3.15.1
cat > "$folder/convert.py" <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf

inputs = keras.Input([4, 4, 1])
x = keras.layers.Conv2D(3, 2, kernel_initializer=keras.initializers.Constant(0.1))(inputs)
x = keras.layers.BatchNormalization(epsilon=0.0)(x)
model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
pixels = np.ones((1, 4, 4, 1), np.float32)


def outputs(converter):
    run = tf.lite.Interpreter(model_content=converter.convert())
    run.allocate_tensors()
    run.set_tensor(run.get_input_details()[0]["index"], pixels)
    run.invoke()
    return run.get_tensor(run.get_output_details()[0]["index"])[0]


traced = tf.function(
    lambda x: model(x, training=False), input_signature=[tf.TensorSpec([1, 4, 4, 1])]
).get_concrete_function()
expected = np.asarray(model(pixels))[0]
lite = tf.lite.TFLiteConverter
found = {
    "function alone": outputs(lite.from_concrete_functions([traced])),
    "function and model": outputs(lite.from_concrete_functions([traced], model)),
    "from_keras_model": outputs(lite.from_keras_model(model)),
}
print("Keras:", [round(float(value), 3) for value in expected])
for name, values in found.items():
    print(f"{name}:", [round(float(value), 3) for value in values])
is_right = [bool(np.allclose(values, expected, atol=1e-4)) for values in found.values()]
assert is_right == [True, False, True]
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=tensorflow "$folder/venv/bin/python" "$folder/convert.py"

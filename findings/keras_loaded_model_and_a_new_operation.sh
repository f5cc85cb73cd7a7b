#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: a functional model that was loaded from its file cannot always be
# made longer. Operations that have no layer, such as `x[:, :2]`, get their names from a counter of
# the process; those in the file come with their names and do not move it. So the next one has a name
# that the model has already, and `keras.Model` refuses both. In the process that built the model
# the same two lines work, and so they do if any such operation was made and thrown away before.
# Layers that are made with a name given or their own class (`Dense`) are not concerned.
# My guess was that a loaded name is known to the counter, or made unique, as layers' are.
# Seen when this was written (Python 3.11):
#   as built: 2 of its columns
#   loaded in a new process: ValueError, "get_item" is used 2 times
#   loaded, after one that was thrown away: 2 of its columns
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow==2.21.0 keras==3.15.1
cat > "$folder/longer.py" <<'PYTHON'
import sys

import keras

way, file = sys.argv[1:]
if way == "as built":
    inputs = keras.Input([4])
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs[:, :2]))
    model.save(file)
else:
    model = keras.models.load_model(file)
if "thrown away" in way:
    model.output[:, :2]
try:
    longer = keras.Model(model.input, model.output[:, :2])
    said = f"{longer.output.shape[1]} of its columns"
except ValueError as error:
    assert 'The name "get_item" is used 2 times' in str(error)
    said = 'ValueError, "get_item" is used 2 times'
print(f"{way}: {said}")
assert ("ValueError" in said) == (way == "loaded in a new process")
PYTHON
for way in "as built" "loaded in a new process" "loaded, after one that was thrown away"; do
  TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=tensorflow \
    "$folder/venv/bin/python" "$folder/longer.py" "$way" "$folder/model.keras"
done

#!/usr/bin/env bash
# KerasHub 0.32.0: a CLIP picture network that is built, not loaded from a preset, does not know where
# a patch lies. `position_ids`, by which the table of positions is read, is created as zeros and is
# not trainable, so every patch gets the row of place 0. If two patches of a picture change places,
# the token of the class stays the same but for rounding, and no training from such a start can tell
# them apart. With the ids 0, 1, 2, … set by hand it differs.
# Seen when this was written (Python 3.11):
#   ids: 0 in all 17 places
#   two patches changed places: the class token differs by less than 1e-6
#   the same with ids 0 … 16: it differs
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
  tensorflow==2.21.0 keras==3.15.1 keras-hub==0.32.0
cat > "$folder/places.py" <<'PYTHON'
import keras
import keras_hub
import numpy as np

keras.utils.set_random_seed(0)
encoder = keras_hub.models.CLIPVisionEncoder(
    patch_size=8,
    hidden_dim=16,
    num_layers=1,
    num_heads=2,
    intermediate_dim=32,
    intermediate_activation="quick_gelu",
    image_shape=(32, 32, 3),
)
(ids,) = [each for each in encoder.variables if each.name == "position_ids"]
picture = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
changed = picture.copy()
changed[:, :8, :8], changed[:, :8, 8:16] = picture[:, :8, 8:16], picture[:, :8, :8]


def difference():
    one, other = (np.asarray(encoder({"images": each}))[:, 0] for each in (picture, changed))
    return float(np.abs(one - other).max())


places = ids.shape[1]
assert not np.asarray(ids).any()
print(f"ids: 0 in all {places} places")
before = difference()
least = "less" if before < 1e-6 else "more"
print(f"two patches changed places: the class token differs by {least} than 1e-6")
ids.assign(np.arange(places)[None])
after = difference()
print(f"the same with ids 0 … {places - 1}: it", "differs" if after > 1e-4 else "is the same")
assert before < 1e-6 and after > 1e-4
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/places.py"

#!/usr/bin/env bash
# KerasHub 0.32.0: the embedding of SigLIP's patches tells Keras of one patch more than it gives, as
# if there were a token of the class, which SigLIP has not. The picture network's symbolic output is
# [batch, 17, channels] for a picture of 4 x 4 patches, and what comes out when it runs has 16. So a
# layer that is put behind it and needs the count, such as a Reshape of the tokens to a map for
# detection or segmentation, is refused while the network is built.
# Seen when this was written (Python 3.11):
#   symbolic: (None, 17, 16)
#   run:      (1, 16, 16)
#   Reshape to (4, 4, 16): ValueError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
  tensorflow==2.21.0 keras==3.15.1 keras-hub==0.32.0
cat > "$folder/patches.py" <<'PYTHON'
import keras
import keras_hub
import numpy as np

encoder = keras_hub.models.SigLIPVisionEncoder(
    patch_size=8,
    hidden_dim=16,
    num_layers=1,
    num_heads=2,
    intermediate_dim=32,
    intermediate_activation="gelu_approximate",
    image_shape=(32, 32, 3),
)
tokens = encoder.post_layer_norm.output
network = keras.Model(encoder.input, tokens)
run = np.asarray(network({"images": np.zeros((1, 32, 32, 3), "float32")}))
print("symbolic:", tuple(tokens.shape))
print("run:     ", run.shape)
try:
    keras.layers.Reshape((4, 4, 16))(tokens)
except ValueError as error:
    print("Reshape to (4, 4, 16):", type(error).__name__)
else:
    raise AssertionError("it is reshaped now")
assert tuple(tokens.shape) == (None, 17, 16) and run.shape == (1, 16, 16)
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/patches.py"

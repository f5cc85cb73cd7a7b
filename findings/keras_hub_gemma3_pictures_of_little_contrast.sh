#!/usr/bin/env bash
# KerasHub 0.32.0: pictures come to a Gemma 3 that was loaded from a Hugging Face folder with a
# quarter of their contrast. Its `preprocessor_config.json` means (x / 255 - mean) / std; KerasHub
# computes the scale as std / 255, not as 1 / (255 std), and only the offset, -mean / std, is right.
# With Gemma's mean and deviation, 0.5, white becomes -0.5 in place of 1 and black -1, as it should:
# every picture is a dark one. There is no error and no warning. Gemma3n's reader of the same file,
# beside it, is right; an older version had 1 / 127.5 written in, and KerasHub's presets have a scale
# of their own. Who tunes or asks Gemma 3 about pictures is hurt, also in a folder that KerasHub's
# own `export_to_transformers` wrote: that puts the same numbers there.
# What helps: `Gemma3ImageConverter.from_preset(folder, scale=[1 / (255 * s) for s in image_std])`.
# My guess was that black, grey and white become -1, 0 and 1.
# Seen when this was written (Python 3.11, Keras 3.15.1 on TensorFlow 2.21.0), black, grey and white:
#   the file means       -1.000, 0.004, 1.000
#   Gemma3 gives         -1.000, -0.749, -0.500
#   Gemma3n gives        -1.000, 0.004, 1.000
#   Gemma3 with a scale  -1.000, 0.004, 1.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet keras-hub==0.32.0 keras==3.15.1 \
  tensorflow==2.21.0 tensorflow-text==2.21.1 safetensors==0.8.0
cat > "$folder/contrast.py" <<'PYTHON'
import json
import pathlib
import sys

import keras_hub
import numpy as np

root = pathlib.Path(sys.argv[1])
prepared = {
    "image_processor_type": "Gemma3ImageProcessor",
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def folder(kind):
    path = root / kind
    path.mkdir(parents=True)
    config = {"model_type": kind, "vision_config": {"image_size": 32}}
    (path / "config.json").write_text(json.dumps(config))
    (path / "preprocessor_config.json").write_text(json.dumps(prepared))
    return str(path)


pixels = np.array([0, 128, 255])
picture = np.tile(pixels[:, None, None, None], (1, 32, 32, 3)).astype(np.uint8)
mean, std = np.array(prepared["image_mean"]), np.array(prepared["image_std"])
gemma3, gemma3n = folder("gemma3"), folder("gemma3n")
converters = {
    "Gemma3 gives": keras_hub.layers.Gemma3ImageConverter.from_preset(gemma3),
    "Gemma3n gives": keras_hub.layers.Gemma3nImageConverter.from_preset(gemma3n),
    "Gemma3 with a scale": keras_hub.layers.Gemma3ImageConverter.from_preset(
        gemma3, scale=[1 / (255 * each) for each in std]
    ),
}
found = {"the file means": (pixels / 255 - mean[0]) / std[0]}
for name, converter in converters.items():
    found[name] = np.asarray(converter(picture))[:, 0, 0, 0]
for name, numbers in found.items():
    print(f"{name:20}", ", ".join(f"{number:.3f}" for number in numbers))
meant, gemma3, gemma3n, helped = found.values()
assert np.allclose(gemma3n, meant, atol=1e-5) and np.allclose(helped, meant, atol=1e-5)
assert np.allclose(gemma3 + 1, (meant + 1) / 4, atol=1e-5)
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" -W ignore "$folder/contrast.py" "$folder/models"

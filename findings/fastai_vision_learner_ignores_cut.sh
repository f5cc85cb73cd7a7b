#!/usr/bin/env bash
# fastai 2.8.12 on torchvision 0.28.0: `vision_learner(…, cut=-1)` does not pass `cut` on. For an
# architecture that is not in fastai's table and pools by a function, not by a layer, such as
# MobileNetV2, it therefore ends with a StopIteration without a message, with `cut` as without it.
# `create_vision_model` of the same arguments, which `vision_learner` calls, makes the model.
# Seen when this was written (Python 3.11, PyTorch 2.13.0):
#   vision_learner(cut=-1): StopIteration('')
#   create_vision_model(cut=-1): 3 outputs
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --no-cache-dir \
  torch===2.13.0 torchvision==0.28.0 fastai==2.8.12
mkdir "$folder/pictures"
cat > "$folder/cut.py" <<'PYTHON'
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image

warnings.simplefilter("ignore")
from fastai.vision.all import ImageDataLoaders, Resize, create_vision_model, models, vision_learner

folder = Path(sys.argv[1])
for i in range(12):
    pixels = np.full((32, 32, 3), 20 * i, np.uint8)
    Image.fromarray(pixels).save(folder / f"{'abc'[i % 3]}_{i}.png")
loaders = ImageDataLoaders.from_name_func(
    folder, sorted(folder.glob("*.png")), lambda name: name[0], item_tfms=Resize(32), bs=4
)
try:
    vision_learner(loaders, models.mobilenet_v2, pretrained=False, cut=-1)
    found = "a learner"
except StopIteration as error:
    found = f"StopIteration({str(error)!r})"
print("vision_learner(cut=-1):", found)
model = create_vision_model(models.mobilenet_v2, 3, pretrained=False, cut=-1).eval()
outputs = model(torch.zeros(1, 3, 32, 32)).shape[1]
print(f"create_vision_model(cut=-1): {outputs} outputs")
assert (found, outputs) == ("StopIteration('')", 3)
PYTHON
"$folder/venv/bin/python" "$folder/cut.py" "$folder/pictures"

#!/usr/bin/env bash
# datumaro 1.13.12, by which annotation tools write COCO: an object that was drawn as a mask, with a
# brush or by SAM, becomes `iscrowd: 1`, one drawn as a polygon or a box 0. COCO means by it a crowd
# whose members cannot be told apart: training leaves it out, and pycocotools measures without it.
# So a set that was drawn with a brush trains on nothing, and boxes that are all right have AP -1.
# In a mixture, only the objects that were drawn with the most care are lost.
# My guess was that a mask of one object is a run-length code with `iscrowd: 0`, which COCO allows.
# Seen when this was written (Python 3.11, pycocotools 2.0.11), the same object drawn in three ways:
#   mask: iscrowd 1, AP of its own box -1.0
#   polygon: iscrowd 0, AP of its own box 1.0
#   box: iscrowd 0, AP of its own box 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datumaro==1.13.12 pycocotools==2.0.11
cat > "$folder/crowds.py" <<'PYTHON'
import contextlib
import io
import json
import pathlib
import sys

import numpy as np
from datumaro.components.annotation import Bbox, Mask, Polygon
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

picture = Image.from_numpy(np.zeros((40, 40, 3), np.uint8))
pixels = np.zeros((40, 40), bool)
pixels[5:15, 5:20] = True
ways = {
    "mask": Mask(pixels, label=0),
    "polygon": Polygon([5, 5, 20, 5, 20, 15, 5, 15], label=0),
    "box": Bbox(5, 5, 15, 10, label=0),
}


def measured(truth):
    known = COCO()
    known.dataset = truth
    known.createIndex()
    (only,) = truth["annotations"]
    own = {key: only[key] for key in ("image_id", "category_id", "bbox")}
    rated = COCOeval(known, known.loadRes([{**own, "score": 0.9}]), "bbox")
    rated.evaluate()
    rated.accumulate()
    rated.summarize()
    return only["iscrowd"], round(float(rated.stats[0]), 6)


found = {}
for way, drawn in ways.items():
    folder = pathlib.Path(sys.argv[1]) / way
    items = [DatasetItem("picture", media=picture, annotations=[drawn])]
    Dataset.from_iterable(items, categories=["car"]).export(str(folder), "coco_instances")
    (file,) = folder.rglob("*.json")
    with contextlib.redirect_stdout(io.StringIO()):
        found[way] = measured(json.loads(file.read_text()))
    print(f"{way}: iscrowd {found[way][0]}, AP of its own box {found[way][1]:.1f}")
assert found == {"mask": (1, -1.0), "polygon": (0, 1.0), "box": (0, 1.0)}
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/crowds.py" "$folder/sets"

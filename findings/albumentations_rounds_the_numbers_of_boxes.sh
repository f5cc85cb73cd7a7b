#!/usr/bin/env bash
# albumentations 2.0.8: whole numbers that go with boxes or keypoints through `label_fields`, such as
# ids by which a box finds its mask or its track again, come back rounded to 24 bits. They travel as a
# column of float32 beside the coordinates, and an array of int64 gets its type back, so it looks
# untouched. Above 16,777,216 a box then has the id of another one, and ids that were made from a
# clock are all the same. It happens whether a transform was drawn or not; as text the ids are kept.
# My guess was that labels come back as they went in: its documentation speaks of preserved types.
# Seen when this was written (Python 3.11), ids of three boxes through a flip:
#   counted: 20000001 to 20000003 -> 20000000, 20000002, 20000004
#   clock:   1790000000100 to 1790000000300 -> 1789999972352, 1789999972352, 1789999972352
#   as text: 20000001 to 20000003 -> 20000001, 20000002, 20000003
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet albumentations==2.0.8
cat > "$folder/ids.py" <<'PYTHON'
import albumentations
import numpy as np

picture = np.zeros((60, 60, 3), np.uint8)
boxes = np.array([[0, 0, 10, 10], [20, 0, 10, 10], [40, 0, 10, 10]], float)


def flipped(ids):
    places = albumentations.BboxParams("coco", label_fields=["ids"])
    flip = albumentations.Compose([albumentations.HorizontalFlip(p=1)], bbox_params=places)
    result = flip(image=picture, bboxes=boxes, ids=ids)
    assert len(result["bboxes"]) == 3
    return result["ids"]


counted = 20_000_001 + np.arange(3)
clock = 1_790_000_000_100 + 100 * np.arange(3)
given = {"counted": counted, "clock": clock, "as text": [str(each) for each in counted]}
found = {}
for name, ids in given.items():
    found[name] = flipped(ids)
    after = ", ".join(map(str, found[name]))
    print(f"{name + ':':8} {ids[0]} to {ids[-1]} -> {after}")
assert found["counted"].dtype == counted.dtype == np.int64
assert found["counted"].tolist() == [20_000_000, 20_000_002, 20_000_004]
assert len(set(found["clock"].tolist())) == 1 and found["as text"] == given["as text"]
assert flipped(counted.tolist()) == found["counted"].tolist()

points = albumentations.KeypointParams("xy", label_fields=["ids"])
still = albumentations.Compose([albumentations.HorizontalFlip(p=0)], keypoint_params=points)
result = still(image=picture, keypoints=boxes[:, :2], ids=counted)
assert result["ids"].tolist() == found["counted"].tolist()
PYTHON
NO_ALBUMENTATIONS_UPDATE=1 "$folder/venv/bin/python" "$folder/ids.py"

#!/usr/bin/env bash
# globox 2.9.0, which measures detectors as COCO does: in the table of `save_csv`, and in the rows of
# `show_summary`, the columns "AR 1", "AR 10" and "AR 100" of a class hold its average precision with
# so many detections a picture, not its recall. The code takes "ap" where it means "ar". The row of
# totals, which is only printed, and "AR S", "AR M" and "AR L" are recalls, so the table contradicts
# itself. Who picks a model or a limit of detections by the recall of a class, as in screening, picks
# by another number: here two of four objects are found, after a surer false alarm.
# My guess was that a column named AR holds a recall, and that rows and totals are of one kind.
# Seen when this was written (Python 3.11), one class, all objects small:
#   written: AP 50:95 0.337, AR 100 0.337, AR S 0.500
#   measured: recall 0.500 of the class, 0.500 in all
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet globox==2.9.0
cat > "$folder/recalls.py" <<'PYTHON'
import csv
import pathlib
import sys

from globox import Annotation, AnnotationSet, BoundingBox, COCOEvaluator


def boxes(places):
    found = [
        BoundingBox(label="car", xmin=x, ymin=0, xmax=x + 10, ymax=10, confidence=score)
        for x, score in places.items()
    ]
    return AnnotationSet([Annotation("picture", image_size=(100, 100), boxes=found)])


rated = COCOEvaluator(
    ground_truths=boxes(dict.fromkeys([0, 20, 40, 60])),
    predictions=boxes({80: 0.9, 0: 0.8, 20: 0.7}),
)
path = pathlib.Path(sys.argv[1])
rated.save_csv(path)
(row,) = csv.DictReader(path.open())
written = {name: float(row[name]) for name in ("AP 50:95", "AR 100", "AR S")}
print("written:", ", ".join(f"{name} {value:.3f}" for name, value in written.items()))
own, all_of_them = rated.ndets_100_evaluation()["car"]["ar"], rated.ar_100()
print(f"measured: recall {own:.3f} of the class, {all_of_them:.3f} in all")
assert own == all_of_them == written["AR S"] == 0.5
assert written["AR 100"] == written["AP 50:95"] and round(written["AR 100"], 3) == 0.337
PYTHON
"$folder/venv/bin/python" "$folder/recalls.py" "$folder/classes.csv"

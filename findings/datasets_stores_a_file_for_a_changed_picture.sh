#!/usr/bin/env bash
# datasets 5.2.0 with Pillow 13.0.0: what a function does to a picture in its place, by `paste`,
# `thumbnail` or a drawing, is thrown away by `map` and `from_dict` if the picture came from a file.
# The Image feature stores the `filename` of a picture that has one instead of its pixels, and Pillow
# keeps that name whatever is done to the pixels. So faces that were painted over are back, and
# `save_to_disk` puts the untouched files into the set. The same function works on the same pictures
# once they were saved, as sets of the hub are, and on a `copy()`, which has no name: who tried it
# there will not look again at home.
# My guess was that `map` stores the picture that the function returns.
# Seen when this was written (Python 3.11), white pictures 100 wide, painted black or made 20 wide:
#   files:  pixel 255 after map, 255 saved, width 100
#   saved:  pixel 0 after map, 0 saved, width 20
#   copies: pixel 0 after map, 0 saved, width 20
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0 pillow==13.0.0
cat > "$folder/changed.py" <<'PYTHON'
import pathlib
import sys

import datasets
from PIL import Image

datasets.disable_progress_bars()
folder = pathlib.Path(sys.argv[1])
files = [str(folder / f"{number}.png") for number in range(2)]
for file in files:
    Image.new("L", (100, 80), 255).save(file)
from_files = datasets.Dataset.from_dict({"image": files}).cast_column("image", datasets.Image())


def saved(name, rows):
    rows.save_to_disk(folder / name)
    return datasets.load_from_disk(folder / name)


def painted(row):
    row["image"].paste(0, (0, 0, 50, 50))
    return row


def shrunk(row):
    row["image"].thumbnail((20, 20))
    return row


def copied(row):
    return {"image": row["image"].copy()}


def measured(name, rows, before):
    black = rows.map(lambda row: painted(before(row)))
    again = saved(f"{name}_black", black)
    small = rows.map(lambda row: shrunk(before(row)))
    pixels = [each[0]["image"].getpixel((5, 5)) for each in (black, again)]
    return *pixels, small[0]["image"].width


found = {
    "files": measured("files", from_files, lambda row: row),
    "saved": measured("saved", saved("all", from_files), lambda row: row),
    "copies": measured("copies", from_files, copied),
}
for name, (after, again, width) in found.items():
    print(f"{name + ':':7} pixel {after} after map, {again} saved, width {width}")
assert found["files"] == (255, 255, 100)
assert found["saved"] == found["copies"] == (0, 0, 20)

picture = Image.open(files[0])
picture.paste(0, (0, 0, 50, 50))
rows = datasets.Dataset.from_dict({"image": [picture]})
assert picture.getpixel((5, 5)) == 0 and rows[0]["image"].getpixel((5, 5)) == 255
PYTHON
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" "$folder/changed.py" "$folder"

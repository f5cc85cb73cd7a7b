#!/usr/bin/env bash
# mlcroissant 1.1.1 reads a column that Croissant declares as text, and gives nothing where the table
# says None, NA or null. A class of that name, such as the healthy one of a medical set, is lost: its
# examples look as if nobody had labelled them. And where one cell of a column of integers is empty,
# numbers above 2 ** 53, as long ids are, come back as their neighbours. Neither is told; the table
# is read by pandas' rules for missing values, whatever the declared types say.
# Seen when this was written (Python 3.11):
#   findings: [b'glioma', None, None, None]
#   ids whole:  [9007199254740993, 9007199254740995]
#   one empty:  [9007199254740992, None]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet mlcroissant==1.1.1
cat > "$folder/table.py" <<'PYTHON'
import hashlib
import json
import logging
import sys
from pathlib import Path

import mlcroissant

logging.disable(logging.CRITICAL)
folder = Path(sys.argv[1])


def column(kind, cells):
    """Returns the values of a column, the second of a table, as a Croissant description has them."""
    table = folder / "table.csv"
    table.write_text("place,value\n" + "".join(f"{i},{c}\n" for i, c in enumerate(cells)))
    file = mlcroissant.FileObject(
        id="table.csv",
        name="table.csv",
        content_url="table.csv",
        encoding_formats=["text/csv"],
        sha256=hashlib.sha256(table.read_bytes()).hexdigest(),
    )
    source = mlcroissant.Source(
        file_object="table.csv", extract=mlcroissant.Extract(column="value")
    )
    field = mlcroissant.Field(id="rows/value", name="value", data_types=[kind], source=source)
    described = mlcroissant.Metadata(
        name="scans",
        description="Findings of scans.",
        url="https://example.com",
        license="CC0-1.0",
        distribution=[file],
        record_sets=[mlcroissant.RecordSet(id="rows", name="rows", fields=[field])],
    )
    (folder / "croissant.json").write_text(json.dumps(described.to_json()))
    records = mlcroissant.Dataset(str(folder / "croissant.json")).records("rows")
    return [record["rows/value"] for record in records]


findings = column(mlcroissant.DataType.TEXT, ["glioma", "None", "NA", "null"])
long = 2**53 + 1
whole = column(mlcroissant.DataType.INTEGER, [long, long + 2])
empty = column(mlcroissant.DataType.INTEGER, [long, ""])
print("findings:", findings)
print("ids whole: ", whole)
print("one empty: ", empty)
assert findings == [b"glioma", None, None, None]
assert whole == [long, long + 2] and empty == [long - 1, None]
PYTHON
"$folder/venv/bin/python" "$folder/table.py" "$folder"

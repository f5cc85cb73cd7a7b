#!/usr/bin/env bash
# tokenizers 0.23.3: its NFC does not sort combining marks that came into Unicode after version 9.
# U+1DF6 (Unicode 10) is of combining class 232, the dot below, U+0323, of class 220. So a normal
# form has the dot first, whatever the order in the text; Python's unicodedata sorts them. For
# tokenizers the younger mark has class 0: it stays in its place, and keeps a later mark from its
# letter: "e" with both does not even become the letter with a dot. Tokenizers of Qwen normalize by
# it, so the two spellings of a text get other ids there. A mark of Unicode 1, U+0315, of the same
# class is sorted.
# Seen when this was written (Python 3.11, whose unicodedata is of Unicode 14):
#   U+1DF6 tokenizers: 65 1df6 323 unicodedata: 1eb9 1df6
#   U+0315 tokenizers: 1eb9 315 unicodedata: 1eb9 315
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --no-deps tokenizers==0.23.3
"$folder/venv/bin/python" -m pip install --quiet "huggingface-hub>=1,<3"
cat > "$folder/nfc.py" <<'PYTHON'
import unicodedata

from tokenizers import normalizers


def points(text):
    return " ".join(f"{ord(character):x}" for character in text)


expected = {"\u1df6": ("65 1df6 323", "1eb9 1df6"), "\u0315": ("1eb9 315", "1eb9 315")}
for mark, (ours, other) in expected.items():
    text = f"e{mark}\u0323"
    found = points(normalizers.NFC().normalize_str(text))
    python = points(unicodedata.normalize("NFC", text))
    print(f"U+{ord(mark):04X} tokenizers: {found} unicodedata: {python}")
    assert (found, python) == (ours, other)
PYTHON
"$folder/venv/bin/python" "$folder/nfc.py"

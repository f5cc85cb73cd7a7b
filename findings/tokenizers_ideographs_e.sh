#!/usr/bin/env bash
# tokenizers 0.23.3: BertNormalizer leaves the first 256 characters of CJK Extension E unspaced.
#
# BERT's tokenizer sets every ideograph apart by spaces, so that it is a word of its own. Extension E
# of Unicode begins at U+2B820. BertNormalizer(handle_chinese_chars=True) sets U+2B920 and all after it
# apart, but none of U+2B820 to U+2B91F: these stay glued to their neighbours and become [UNK] with
# them. Seen: the first character that is spaced is 2b920.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet tokenizers==0.23.3
"$place/venv/bin/python" - <<'PYTHON'
from tokenizers.normalizers import BertNormalizer

normalizer = BertNormalizer(handle_chinese_chars=True)
block = range(0x2B820, 0x2CEB0)  # Extension E, assigned since Unicode 8.
spaced = [code for code in block if normalizer.normalize_str(f"a{chr(code)}a").count(" ") == 2]
print(f"first spaced character: {spaced[0]:x}; unspaced before it: {spaced[0] - block[0]}")
assert spaced[0] == 0x2B920, "the behaviour has changed"
assert normalizer.normalize_str("a\u4e2da") == "a \u4e2d a"
PYTHON

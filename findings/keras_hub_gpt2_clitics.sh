#!/usr/bin/env bash
# keras-hub 0.32.0: BytePairTokenizer cuts a text before merging in other places than GPT-2 does.
#
# GPT-2 cuts " 's" into a space with an apostrophe, and "s". BytePairTokenizer does not cut there, so
# that "'s" is merged where its rank is the lower one, as in GPT-2's own merges. A tokenized text such
# as "it 's" (SST-2 and most treebanks are written so) thus gets other ids than those the weights were
# trained on. Two line breaks before a letter are one piece there and two in GPT-2.
# Seen: tokenizers 0.23.3 ['it', "Ġ'", 's'] and ['x', 'Ċ', 'Ċ', 'y'];
# keras-hub ['it', 'Ġ', "'s"] and ['x', 'ĊĊ', 'y'].
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet keras-hub==0.32.0 keras==3.15.1 \
  tensorflow==2.21.0 tensorflow-text==2.21.1 tokenizers==0.23.3
TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=-1 "$place/venv/bin/python" - <<'PYTHON'
import keras_hub
from tokenizers import Tokenizer, models, pre_tokenizers

letters = sorted(pre_tokenizers.ByteLevel.alphabet())
merges = [("i", "t"), ("'", "s"), ("Ġ", "'"), ("Ċ", "Ċ")]
vocabulary = {piece: i for i, piece in enumerate([*letters, *map("".join, merges)])}

reference = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
other = keras_hub.tokenizers.BytePairTokenizer(vocabulary, [" ".join(pair) for pair in merges])
pieces = {i: piece for piece, i in vocabulary.items()}
expected = {
    "it 's": (["it", "Ġ'", "s"], ["it", "Ġ", "'s"]),
    "x\n\ny": (["x", "Ċ", "Ċ", "y"], ["x", "ĊĊ", "y"]),
}
for text, (first, second) in expected.items():
    ours = reference.encode(text).tokens
    theirs = [pieces[int(i)] for i in other(text)]
    print(repr(text), ours, theirs)
    assert ours == first and theirs == second, "the behaviour has changed"
PYTHON

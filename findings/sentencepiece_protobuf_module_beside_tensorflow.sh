#!/usr/bin/env bash
# sentencepiece 0.2.3 beside TensorFlow's protobuf: its module for reading and writing .model files,
# `sentencepiece.sentencepiece_model_pb2`, cannot be imported. It was generated for protobuf 7.36.1
# and refuses older runtimes, but the package names no version of protobuf, not even in its extra of
# that name, so pip installs both without a word. TensorFlow 2.21 allows protobuf 6; 6.33.6 is what it gets. Tokenizing itself works:
# it does not use the module. Whoever edits a vocabulary, or converts a tokenizer, meets the error.
# Seen when this was written (Python 3.11):
#   requires: ['protobuf; extra == "protobuf"', 'protobuf; extra == "test"']
#   tokenizer: ok
#   module: VersionError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet sentencepiece==0.2.3 protobuf==6.33.6
cat > "$folder/pieces.py" <<'PYTHON'
import importlib.metadata
import io

import sentencepiece

requires = importlib.metadata.requires("sentencepiece") or []
required = [each for each in requires if each.startswith("protobuf")]
print("requires:", required)
assert required == ['protobuf; extra == "protobuf"', 'protobuf; extra == "test"']
model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["a rain in spain", "rain on a plain"] * 20),
    model_writer=model,
    vocab_size=14,
    minloglevel=2,
)
processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
assert processor.decode(processor.encode("a plain")) == "a plain"
print("tokenizer: ok")
try:
    import sentencepiece.sentencepiece_model_pb2  # noqa: F401
except Exception as error:
    print("module:", type(error).__name__)
    assert type(error).__name__ == "VersionError"
else:
    raise AssertionError("the module can be imported")
PYTHON
"$folder/venv/bin/python" "$folder/pieces.py"

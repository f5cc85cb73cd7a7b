#!/usr/bin/env bash
# tensorflow-text 2.21.1 with TensorFlow 2.21.0: `tf.random.set_seed` destroys the model of every
# SentencepieceTokenizer that was made before it. The tokenizer then raises NotFoundError, called
# eagerly or in a function that was traced before. `keras.utils.set_random_seed` calls it, so a
# program that makes its tokenizer first and seeds its training afterwards stops at the first batch.
# Seen when this was written (Python 3.11):
#   before: [[15, 16, 20, 6, 7, 13]]
#   after, eager: NotFoundError
#   after, function: NotFoundError
#   made after the seed: [[15, 16, 20, 6, 7, 13]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
  tensorflow==2.21.0 tensorflow-text==2.21.1 sentencepiece==0.2.1
cat > "$folder/seed.py" <<'PYTHON'
import io

import sentencepiece
import tensorflow as tf
import tensorflow_text

SENTENCES = ["a small text about rain", "another text about snow", "rain and snow"] * 20
written = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(SENTENCES), model_writer=written, vocab_size=40, hard_vocab_limit=False
)
texts = tf.constant(["rain and snow"])


def result(call):
    try:
        return call(texts).to_list()
    except tf.errors.NotFoundError as error:
        return type(error).__name__


tokenizer = tensorflow_text.SentencepieceTokenizer(model=written.getvalue())
function = tf.function(tokenizer.tokenize)
before = result(function)
print("before:", before)
tf.random.set_seed(1)
eager, traced = result(tokenizer.tokenize), result(function)
print("after, eager:", eager)
print("after, function:", traced)
again = result(tensorflow_text.SentencepieceTokenizer(model=written.getvalue()).tokenize)
print("made after the seed:", again)
assert before == again
assert eager == traced == "NotFoundError"
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/seed.py"

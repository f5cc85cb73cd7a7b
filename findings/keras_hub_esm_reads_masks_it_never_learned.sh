#!/usr/bin/env bash
# KerasHub 0.32.0: ESM-2, the network of proteins, comes out of its Hugging Face folder with other
# features than its own. Such a folder says `token_dropout: true`, which is no dropout: also when
# the network answers, the row of a masked residue is zeroed, and all rows are multiplied by 0.88 /
# (1 - share of masks), as in its training. KerasHub does not read the field and has no such step:
# all rows are longer by a seventh than what the blocks were trained on, and a mask gets its row of
# the table, which the training of ESM-2 never touched. It warns of nothing. The request that added
# ESM, keras-hub#2244, set `token_dropout = False` in transformers before it compared the two.
# Who embeds proteins is a little wrong; who fills or scores masked residues reads noise. What
# helps: multiply `token_embedding` by 0.88 and zero its row of the mask. That is exact where there
# is no mask; with masks a factor 1 / (1 - share) is left that changes from protein to protein.
# My guess was that KerasHub gives the features of transformers, as its other folders do.
# Seen when this was written (Python 3.11, Keras 3.15.1 on TensorFlow 2.21.0), beside the ESM of
# transformers 4.57.6, which has it in TensorFlow:
#   outputs to 2.9
#   no mask: off by 0.05339, and by 0.00000 with token_dropout off there
#   three of twelve masked: off by 3.37622, and by 0.00000 with token_dropout off there
#   no mask, table mended: off by 0.00000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet keras-hub==0.32.0 keras==3.15.1 \
  tensorflow==2.21.0 tensorflow-text==2.21.1 safetensors==0.8.0 transformers==4.57.6 tf-keras==2.21.0
cat > "$folder/proteins.py" <<'PYTHON'
import sys

import keras_hub
import numpy as np
import tf_keras
from safetensors.numpy import save_file
from transformers import EsmConfig, TFEsmModel

mask = 32
config = EsmConfig(
    architectures=["EsmModel"],
    vocab_size=33,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=66,
    position_embedding_type="rotary",
    layer_norm_eps=1e-5,
    initializer_range=0.5,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    token_dropout=True,
    pad_token_id=1,
    mask_token_id=mask,
)
tokens = np.random.default_rng(0).integers(4, 24, (3, 12))
tokens[:, 0], tokens[:, -1] = 0, 2
masked = tokens.copy()
masked[:, 3:6] = mask

tf_keras.utils.set_random_seed(0)
theirs = TFEsmModel(config, add_pooling_layer=False)


def right(tokens, token_dropout=True):
    theirs.esm.embeddings.token_dropout = token_dropout
    given = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    return theirs(given).last_hidden_state.numpy()


right(tokens)
words = {"kernel": "weight", "gamma": "weight", "beta": "bias", "embeddings": "weight"}
tensors = {}
for variable in theirs.weights:
    path = variable.name.split(":")[0].replace("layer_._", "layer.").split("/")
    path = path[path.index("esm") + 1 :]
    value = variable.numpy().T if path[-1] == "kernel" else variable.numpy()
    path[-1] = words.get(path[-1], path[-1])
    tensors[".".join(path)] = np.ascontiguousarray(value)
folder = sys.argv[1]
config.save_pretrained(folder)
save_file(tensors, f"{folder}/model.safetensors")

ours = keras_hub.models.ESMBackbone.from_preset(folder)


def off(tokens, **more):
    return float(abs(np.asarray(ours({"token_ids": tokens})) - right(tokens, **more)).max())


print(f"outputs to {abs(right(tokens)).max():.1f}")
found = {"no mask": tokens, "three of twelve masked": masked}
for name, each in found.items():
    found[name] = off(each), off(each, token_dropout=False)
    print(f"{name}: off by {found[name][0]:.5f}", end=", ")
    print(f"and by {found[name][1]:.5f} with token_dropout off there")
table = ours.token_embedding.embeddings
rows = np.array(table) * (1 - 0.15 * 0.8)
rows[mask] = 0
table.assign(rows)
mended = off(tokens)
print(f"no mask, table mended: off by {mended:.5f}")
wrong, same = zip(*found.values(), strict=True)
assert wrong[0] > 0.03 and wrong[1] > 1 and max(*same, mended) < 1e-4
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 TF_USE_LEGACY_KERAS=1 \
  "$folder/venv/bin/python" -W ignore "$folder/proteins.py" "$folder/model"

#!/usr/bin/env bash
# KerasHub 0.32.0: `ImageClassifier.from_preset` of a Hugging Face folder of a ViT loads the network,
# its head, and a preprocessor that does nothing. It does not read `preprocessor_config.json`: its
# converter of pictures is None, so `predict` and `fit` give the network 0 to 255 where it was
# trained on -1 to 1, without a warning. It is the same with DeiT, DINOv2 and DINOv3; the folder of
# a Swin Transformer is read. KerasHub's own presets of the same weights scale, and the page of
# ViTImageConverter says that `from_preset` gives what rescales and resizes for a pretrained model.
# Who classifies or fine-tunes so finds the network worse than it is. Here is one that tells dark
# pictures from bright ones and is always right: as no pixel is below 0, all of them are bright.
# What helps: from_preset(folder, preprocessor=ViTImageClassifierPreprocessor(image_converter)) with
# a ViTImageConverter whose scale is 1 / (255 std) and offset -mean / std, by the folder's numbers.
# My guess was that a folder's preprocessing comes with it, as the tokenizer does with a text's.
# Seen when this was written (Python 3.11, Keras 3.15.1 on TensorFlow 2.21.0):
#   the network gets 0 to 255, the folder says -1 to 1
#   as loaded: found 0 of 86 dark pictures, 114 of 114 bright ones
#   with a converter: found 86 of 86 dark pictures, 114 of 114 bright ones
#   scale that was read: vit None, deit None, dinov2 None, dinov3_vit None, swin 0.00784
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet keras-hub==0.32.0 keras==3.15.1 \
  tensorflow==2.21.0 tensorflow-text==2.21.1 safetensors==0.8.0
cat > "$folder/pictures.py" <<'PYTHON'
import json
import pathlib
import sys

import keras_hub
import numpy as np
from safetensors.numpy import save_file

side, patch, width = 32, 16, 4
mean = std = 0.5
root = pathlib.Path(sys.argv[1])


def folder(kind):
    path = root / kind
    path.mkdir(parents=True)
    config = {
        "model_type": kind,
        "architectures": ["ViTForImageClassification"],
        "image_size": side,
        "patch_size": patch,
        "hidden_size": width,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": width,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "qkv_bias": True,
        "id2label": {"0": "dark", "1": "bright"},
    }
    prepared = {
        "do_resize": True,
        "size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [mean] * 3,
        "image_std": [std] * 3,
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "preprocessor_config.json").write_text(json.dumps(prepared))
    return str(path)


# The first two numbers of a patch are its mean and minus its mean, and the class's token gathers
# those of all patches alike.
sums, all_of_it = np.zeros((width, 3, patch, patch)), np.eye(width)
sums[0], sums[1] = 1 / (3 * patch**2), -1 / (3 * patch**2)
tensors = {
    "vit.embeddings.cls_token": np.zeros((1, 1, width)),
    "vit.embeddings.position_embeddings": np.zeros((1, 1 + (side // patch) ** 2, width)),
    "vit.embeddings.patch_embeddings.projection.weight": sums,
    "vit.embeddings.patch_embeddings.projection.bias": np.zeros(width),
    "classifier.weight": np.array([[-1.0, 0, 0, 0], [1, 0, 0, 0]]),
    "classifier.bias": np.zeros(2),
}
layer = "vit.encoder.layer.0"
kernels = {
    "attention.attention.query": 0 * all_of_it,
    "attention.attention.key": 0 * all_of_it,
    "attention.attention.value": all_of_it,
    "attention.output.dense": all_of_it,
    "intermediate.dense": 0 * all_of_it,
    "output.dense": 0 * all_of_it,
    "layernorm_before": np.ones(width),
    "layernorm_after": np.ones(width),
}
kernels = {f"{layer}.{name}": kernel for name, kernel in kernels.items()}
for name, kernel in {**kernels, "vit.layernorm": np.ones(width)}.items():
    tensors |= {f"{name}.weight": kernel, f"{name}.bias": np.zeros(width)}
vit = folder("vit")
numbers = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
save_file(numbers, f"{vit}/model.safetensors")

random = np.random.default_rng(0)
light = random.uniform(-60, 60, (200, 1, 1, 1))
pictures = random.uniform(0, 255, (200, side, side, 3)) * 0.5 + 64 + light
pictures = pictures.clip(0, 255).round().astype(np.uint8)
pictures[:, 0, 0], pictures[:, 0, 1] = 0, 255
bright = pictures.mean((1, 2, 3)) > 127.5

task = keras_hub.models.ImageClassifier.from_preset(vit)
given = np.asarray(task.preprocessor(pictures))
loaded = task.predict(pictures, verbose=0).argmax(1)
converter = keras_hub.layers.ViTImageConverter(
    image_size=(side, side), scale=[1 / (255 * std)] * 3, offset=[-mean / std] * 3
)
own = keras_hub.models.ViTImageClassifierPreprocessor(image_converter=converter)
meant = np.asarray(own(pictures))
assert np.allclose(meant, (pictures / 255 - mean) / std, atol=1e-5)
task = keras_hub.models.ImageClassifier.from_preset(vit, preprocessor=own)
helped = task.predict(pictures, verbose=0).argmax(1)
print(f"the network gets {given.min()} to {given.max()}", end=", ")
print(f"the folder says {meant.min():.0f} to {meant.max():.0f}")
right = {}
for name, answers in {"as loaded": loaded, "with a converter": helped}.items():
    right[name] = int((answers[~bright] == 0).sum()), int((answers[bright] == 1).sum())
    print(f"{name}: found {right[name][0]} of {sum(~bright)} dark pictures", end=", ")
    print(f"{right[name][1]} of {sum(bright)} bright ones")

layers = keras_hub.layers
kinds = {
    "vit": layers.ViTImageConverter.from_preset(vit),
    "deit": layers.DeiTImageConverter.from_preset(folder("deit")),
    "dinov2": layers.DINOV2ImageConverter.from_preset(folder("dinov2")),
    "dinov3_vit": layers.DINOV3ImageConverter.from_preset(folder("dinov3_vit")),
    "swin": layers.SwinTransformerImageConverter.from_preset(folder("swin")),
}
read = {kind: converter and round(converter.scale[0], 5) for kind, converter in kinds.items()}
print("scale that was read:", ", ".join(f"{kind} {scale}" for kind, scale in read.items()))
assert given.max() == 255 and right["as loaded"] == (0, sum(bright))
assert right["with a converter"] == (sum(~bright), sum(bright))
assert [kind for kind, scale in read.items() if scale] == ["swin"]
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" -W ignore "$folder/pictures.py" "$folder/models"

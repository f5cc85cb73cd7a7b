"""The table of keras.applications: complete, checked early, and its weights files."""

from __future__ import annotations

import hashlib
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlkeras import files, spec
from tlkeras.backbone import Backbone
from tlkeras.backbones import applications
from tlkeras.backbones.applications import (
    VGG16,
    EfficientNetB0,
    MobileNet,
    MobileNetV2,
    MobileNetV3Small,
    ResNet50V2,
)
from tlkeras.frameworks import keras, tf
from tlkeras.texts import hub_files

X = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)


def plain(constructor: str = "MobileNet", **options: Any) -> keras.Model:
    """A network as keras.applications makes it, with weights that are not its initial ones."""
    defaults: dict[str, Any] = {"weights": None, "include_top": False}
    if not options.get("include_top"):
        defaults["input_shape"] = (32, 32, 3)
    network = getattr(keras.applications, constructor)(**{**defaults, **options})
    random = np.random.default_rng(0)
    network.set_weights(
        [w + random.uniform(0, 0.1, w.shape).astype(w.dtype) for w in network.get_weights()]
    )
    return network


def test_every_constructor_of_keras_applications_is_in_the_table_once():
    constructors = {name for name in dir(keras.applications) if name[0].isupper()}
    rows = [row[0] for row in applications.TABLE]
    assert sorted(rows) == sorted(constructors)
    assert len(rows) == 40


@pytest.mark.parametrize("row", applications.TABLE, ids=lambda row: row[1])
def test_every_row_is_a_class_of_its_name(row):
    constructor, name, _, size = row
    member = getattr(applications, constructor)
    assert spec.names(Backbone)[name] is member
    assert member().size == size
    assert member().weights == "imagenet"


@pytest.mark.parametrize(
    ("constructor", "module"),
    [
        ("DenseNet121", "densenet"),
        ("MobileNet", "mobilenet"),
        ("MobileNetV3Small", "mobilenet_v3"),
        ("VGG16", "vgg16"),
    ],
)
def test_pixels_are_scaled_as_preprocess_input_does(constructor: str, module: str):
    network = getattr(applications, constructor)(size=32, weights=None).build()
    reference = plain(constructor)
    reference.set_weights(network.get_weights())
    scaled = getattr(keras.applications, module).preprocess_input(X.copy())
    expected = reference(scaled).numpy()
    np.testing.assert_allclose(
        network(X)["stride32"], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize("row", applications.TABLE, ids=lambda row: row[1])
def test_every_row_scales_as_the_preprocess_input_of_its_own_module(row: Any):
    constructor, _, family, _ = row
    module: Any = sys.modules[getattr(keras.applications, constructor).__module__]
    found = np.asarray(family.scale(tf.constant(X)))
    np.testing.assert_allclose(found, module.preprocess_input(X.copy()), atol=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vgg16(size=31)", r"vgg16.size is 31, expected at least 32"),
        ("inception_v3(size=74)", r"size is 74, expected at least 75"),
        (
            "mobilenet_v2(alpha=0.3)",
            r"alpha is 0\.3, expected one of 0\.35, 0\.5, .* where weights='imagenet'",
        ),
        ("mobilenet_v2(alpha=0, weights=None)", r"alpha is 0.0, expected more than 0"),
        ("vgg16(alpha=0.5)", r"vgg16 has no field 'alpha'"),
        (
            "vgg16(weights='imagnet')",
            r"weights is 'imagnet', expected 'imagenet', None or the path",
        ),
        ("resnet50_v2", r"'resnet50_v2' is not a Backbone; did you mean 'resnet50v2'"),
    ],
)
def test_what_does_not_fit_is_refused_when_written(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        spec.parse(text, Backbone)


@pytest.mark.parametrize("file", ["w.weights.h5", "w.h5", "w.keras"])
@pytest.mark.parametrize("top", [False, True], ids=["headless", "with its classifier"])
def test_weights_files_of_every_kind_are_loaded(tmp_path: Path, file: str, top: bool):
    path = tmp_path / file
    saved = plain(alpha=0.25, include_top=top)
    if file.endswith(".weights.h5"):
        saved.save_weights(path)
    else:
        saved.save(path)
    network = MobileNet(alpha=0.25, size=32, weights=str(path)).build()
    reference = plain(alpha=0.25)
    reference.set_weights(saved.get_weights()[: len(reference.weights)])
    expected = reference(X / 127.5 - 1).numpy()
    np.testing.assert_allclose(network(X)["stride32"], expected, rtol=1e-3, atol=1e-4)


def test_a_file_of_another_width_is_refused_and_its_width_told(tmp_path: Path):
    path = tmp_path / "w.weights.h5"
    plain(alpha=0.25).save_weights(path)
    with pytest.raises(
        ValueError, match=r"w.weights.h5 does not .* They fit alpha=0.25: write mob"
    ):
        MobileNet(size=32, weights=str(path)).build()


def test_a_file_of_another_network_is_refused(tmp_path: Path):
    path = tmp_path / "w.weights.h5"
    plain(alpha=0.25).save_weights(path)
    with pytest.raises(ValueError, match=r"hold the weights of vgg16.* keras.applications.VGG16"):
        VGG16(size=32, weights=str(path)).build()


def test_a_classifier_of_other_classes_is_refused(tmp_path: Path):
    path = tmp_path / "w.weights.h5"
    plain(alpha=0.25, include_top=True, classes=7).save_weights(path)
    expected = r"arrays 0 are missing, and 2 \(such as .* or with that of 1000 classes"
    with pytest.raises(ValueError, match=expected):
        MobileNet(alpha=0.25, size=32, weights=str(path)).build()


@pytest.mark.parametrize("file", ["w.weights.h5", "w.h5", "w.keras"])
def test_a_damaged_or_missing_file_is_refused_by_name(tmp_path: Path, file: str):
    path = tmp_path / file
    backbone = MobileNet(alpha=0.25, size=32, weights=str(path))
    with pytest.raises(ValueError, match=f"{file}', but there is no such file"):
        backbone.build()
    with pytest.raises(ValueError, match="no such file"):
        backbone.fingerprint()
    saved = plain(alpha=0.25)
    saved.save_weights(path) if file == "w.weights.h5" else saved.save(path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=f"{file}', which is damaged .* Download it again"):
        backbone.build()


def test_a_file_under_the_wrong_ending_is_refused_with_the_right_one(tmp_path: Path):
    saved = plain(alpha=0.25)
    saved.save_weights(tmp_path / "a.weights.h5")
    (tmp_path / "a.weights.h5").rename(tmp_path / "new.h5")
    saved.save(tmp_path / "b.h5")
    (tmp_path / "b.h5").rename(tmp_path / "old.weights.h5")
    with pytest.raises(ValueError, match=r"ends in \.weights\.h5.* Rename it"):
        MobileNet(alpha=0.25, size=32, weights=str(tmp_path / "new.h5")).build()
    with pytest.raises(ValueError, match=r"ends in \.h5.* Rename it"):
        MobileNet(alpha=0.25, size=32, weights=str(tmp_path / "old.weights.h5")).build()


@pytest.mark.parametrize(
    ("held", "meant"),
    [
        # As published: the deviation stands where the layer expects the variance.
        (applications.DEVIATION, np.square(applications.DEVIATION)),
        # As a network of one's own trained on [0, 1] holds it.
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]),
    ],
)
def test_an_efficientnet_file_scales_pixels_as_its_weights_were_trained(
    tmp_path: Path, held, meant
):
    path = tmp_path / "w.weights.h5"
    saved = plain("EfficientNetB0")
    scaling = next(x for x in saved.layers if isinstance(x, keras.layers.Normalization))
    scaling.set_weights([np.array(applications.MEAN), np.array(held), np.array(0)])
    saved.save_weights(path)
    network = EfficientNetB0(size=32, weights=str(path)).build()
    scaling.set_weights([np.array(applications.MEAN), np.array(meant), np.array(0)])
    scaling.finalize_state()
    expected = saved(X).numpy()
    np.testing.assert_allclose(
        network(X)["stride32"], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )


def test_the_fingerprint_is_that_of_the_file_s_contents(tmp_path: Path):
    path = tmp_path / "w.h5"
    path.write_bytes(b"one")
    backbone = ResNet50V2(weights=str(path))
    first = backbone.fingerprint()
    path.write_bytes(b"two")
    assert backbone.fingerprint() != first
    path.write_bytes(b"one")
    assert backbone.fingerprint() == first
    assert ResNet50V2().fingerprint() == MobileNetV3Small(weights=None).fingerprint() == ""


def test_weights_are_read_once_for_their_fingerprint_until_they_change(tmp_path, monkeypatch):
    path = tmp_path / "a" / "w.h5"
    path.parent.mkdir()
    read, real = [], files.sha256
    monkeypatch.setattr(files, "sha256", lambda each: read.append(each) or real(each))
    for content in (b"one", b"two"):
        path.write_bytes(content)
        found = {ResNet50V2(weights=str(path)).fingerprint() for _ in range(3)}
        assert found == {hashlib.sha256(content).hexdigest()}
        assert len({hub_files.fingerprint([path.parent]) for _ in range(3)}) == 1
    assert read == [path, path]


def test_without_a_network_the_error_says_to_give_a_file(monkeypatch, tmp_path: Path):
    def refuse(*_args: Any, **_options: Any):
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    # Keras reads KERAS_HOME as it is imported.
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=r"cannot be .* mobilenet\(weights='FILE.h5'"):
        MobileNet(alpha=0.25, size=128).build()


def test_a_picture_made_small_keeps_the_mean_of_all_its_pixels():
    stripes = np.zeros([64, 64, 3], np.uint8)
    stripes[:, ::4] = 255  # Every fourth column: without antialiasing all of it or nothing.
    small = MobileNetV2(size=32, weights=None).preprocess({"image": tf.constant(stripes)})
    assert np.mean(small) == pytest.approx(255 / 4, abs=1.5)
    smaller = tf.image.resize(small, [8, 8], antialias=True)[2:-2, 2:-2]
    np.testing.assert_allclose(smaller, 255 / 4, atol=2)

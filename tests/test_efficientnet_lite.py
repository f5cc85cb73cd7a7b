"""EfficientNet-Lite: its published sizes, and weights from PyTorch files that run no code."""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.backbones.efficientnet_lite import TABLE
from tlkeras.formats import torch_file
from tlkeras.frameworks import keras

PARAMETERS = {
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "efficientnet_lite3": 8_197_096,
    "efficientnet_lite4": 13_006_568,
}
"""Trained numbers of the published networks, with their classifier of 1280 x 1000 + 1000."""

CLASSIFIER = 1280 * 1000 + 1000


class Stored:
    """A storage of PyTorch, as `torch.save` hands it to the pickler."""

    def __init__(self, key: str, values: np.ndarray) -> None:
        self.key, self.values = key, values


def saved(path: Path, state: dict[str, Any], archive: bool, more: Any = None) -> Path:
    """Writes a file as PyTorch does, of arrays by name; `more` is pickled among them as it is."""
    module, utilities = types.ModuleType("torch"), types.ModuleType("torch._utils")
    storage = type("FloatStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utilities.__dict__["_rebuild_tensor_v2"] = _rebuild_tensor_v2
    module.__dict__["FloatStorage"] = storage

    class Tensor:
        def __init__(self, key: str, values: np.ndarray) -> None:
            self.stored = Stored(key, values)

        def __reduce__(self) -> Any:
            values = self.stored.values
            strides = tuple(stride // 4 for stride in values.strides)
            arguments = (self.stored, 0, values.shape, strides, False, OrderedDict())
            return _rebuild_tensor_v2, arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if not isinstance(obj, Stored):
                return None
            return (
                "storage",
                storage,
                obj.key,
                "cpu",
                obj.values.size,
                *([] if archive else [None]),
            )

    tensors = OrderedDict((name, Tensor(str(i), a)) for i, (name, a) in enumerate(state.items()))
    holds: Any = OrderedDict({**tensors, **({} if more is None else {"more": more})})
    buffer = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", module)
        patch.setitem(sys.modules, "torch._utils", utilities)
        if archive:
            Pickler(buffer, protocol=2).dump(holds)
        else:
            for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
                pickle.dump(value, buffer, protocol=2)
            Pickler(buffer, protocol=2).dump(holds)
            pickle.dump([tensor.stored.key for tensor in tensors.values()], buffer, protocol=2)
            for tensor in tensors.values():
                values = tensor.stored.values
                buffer.write(values.size.to_bytes(8, "little") + values.tobytes())
    if not archive:
        path.write_bytes(buffer.getvalue())
        return path
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("name/data.pkl", buffer.getvalue())
        file.writestr("name/byteorder", "little")
        for tensor in tensors.values():
            file.writestr(f"name/data/{tensor.stored.key}", tensor.stored.values.tobytes())
    return path


def state_of(backbone: Backbone, network: keras.Model) -> dict[str, np.ndarray]:
    """Returns the weights of a network by PyTorch's names, each of PyTorch's shape."""
    names: dict[str, str] = dict(backbone._torch_names())  # type: ignore[attr-defined]
    state: dict[str, np.ndarray] = {}
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            parts = ("weight", "bias", "running_mean", "running_var")
            for part, weight in zip(parts, layer.get_weights(), strict=True):
                state[f"{names[layer.name]}.{part}"] = weight
        elif layer.weights:
            is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            (weight,) = layer.get_weights()
            weight = weight.transpose((2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1))
            state[f"{names[layer.name]}.weight"] = np.ascontiguousarray(weight)
    return state


def lite(name: str = "efficientnet_lite0", **fields: Any) -> Any:
    member: Any = spec.names(Backbone)[name]
    return member(**{"size": 32, **fields})


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_every_size_has_the_published_number_of_parameters(row):
    name, _, _, size = row
    member: Any = spec.names(Backbone)[name]
    assert member().size == size
    trained = sum(int(np.prod(w.shape)) for w in lite(name).build().trainable_weights)
    assert trained + CLASSIFIER == PARAMETERS[name]


@pytest.mark.parametrize("archive", [True, False])
def test_weights_of_a_pytorch_file_are_those_it_was_written_from(tmp_path, archive):
    network = lite().build()
    random = np.random.default_rng(0)
    network.set_weights([random.uniform(0.5, 1, w.shape) for w in network.get_weights()])
    state = {**state_of(lite(), network), "_fc.bias": np.zeros(1000, np.float32)}
    path = saved(tmp_path / "lite.pth", state, archive)
    found = lite(weights=str(path)).build()
    for one, other in zip(found.weights, network.weights, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)


def test_weights_of_a_keras_file_are_those_it_was_written_from(tmp_path):
    backbone = lite()
    network = backbone.build()
    network.save_weights(tmp_path / "lite.weights.h5")
    found = lite(weights=str(tmp_path / "lite.weights.h5")).build()
    for one, other in zip(found.weights, network.weights, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)


@pytest.mark.parametrize("archive", [True, False])
def test_tensors_are_read_whatever_their_strides(tmp_path, archive):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    path = saved(tmp_path / "a.pth", {"a": values, "b": values[0, 0]}, archive)
    read = torch_file.read(path)
    assert {*read} == {"a", "b"}
    np.testing.assert_array_equal(read["a"], values)
    np.testing.assert_array_equal(read["b"], values[0, 0])


class Calls:
    """An object whose pickle calls a function."""

    def __reduce__(self) -> Any:
        return print, ("a pickle was run",)


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize(
    ("more", "named"),
    [
        (Calls(), "builtins.print|__builtin__.print"),
        (Path("a"), "pathlib"),
        (3, "'more', a int"),
        ({1, 2}, "set"),
    ],
)
def test_a_file_with_anything_but_tensors_is_refused_and_runs_nothing(
    tmp_path, capsys, archive, more, named
):
    path = saved(tmp_path / "a.pth", {"a": np.ones(3, np.float32)}, archive, more)
    with pytest.raises(ValueError, match=f"a.pth holds .*({named}).*expected named tensors alone"):
        torch_file.read(path)
    assert "a pickle was run" not in capsys.readouterr().out


@pytest.mark.parametrize("archive", [True, False])
def test_a_damaged_file_is_named(tmp_path, archive):
    whole = saved(tmp_path / "a.pth", {"a": np.ones(300, np.float32)}, archive).read_bytes()
    for part in (0, 1, 100, len(whole) // 2, len(whole) - 5):
        (tmp_path / "b.pth").write_bytes(whole[:part])
        with pytest.raises(ValueError, match=r"b.pth is damaged or no PyTorch file"):
            torch_file.read(tmp_path / "b.pth")


def test_the_first_part_of_an_archive_is_damaged_whatever_its_date(tmp_path):
    whole = saved(tmp_path / "a.pth", {"a": np.ones(300, np.float32)}, True).read_bytes()
    # A time of which one byte is the end of a line: that would end a name in a pickle.
    (tmp_path / "b.pth").write_bytes(whole[:10] + b"\n" + whole[11 : len(whole) // 2])
    with pytest.raises(ValueError, match=r"b.pth is damaged or no PyTorch file"):
        torch_file.read(tmp_path / "b.pth")


def test_mutated_files_are_read_or_refused(tmp_path):
    random = np.random.default_rng(0)
    for archive in (True, False):
        values = np.ones(30, np.float32)
        whole = saved(tmp_path / "a.pth", {"a": values, "b": values}, archive).read_bytes()
        for _ in range(5000):
            mutated = bytearray(whole)
            for place in random.integers(0, len(whole), 3):
                mutated[place] = random.integers(256)
            (tmp_path / "b.pth").write_bytes(mutated)
            try:
                read = torch_file.read(tmp_path / "b.pth")
            except ValueError as error:
                assert "b.pth" in str(error)
            else:
                assert all(array.nbytes <= len(whole) for array in read.values())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 16}, "size is 16, expected at least 32"),
        ({"weights": "a.bin"}, r"weights is 'a.bin', expected None or the path of a file"),
        ({"weights": "imagenet"}, "weights is 'imagenet', expected None or the path of a file"),
    ],
)
def test_a_wrong_field_is_refused_when_it_is_made(fields, message):
    with pytest.raises(ValueError, match=message):
        lite(**fields)


def test_a_file_that_is_missing_or_of_another_network_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"gone.pth', but there is no such file"):
        lite(weights=str(tmp_path / "gone.pth")).build()
    other = saved(tmp_path / "other.pth", {"a": np.ones(3, np.float32)}, True)
    with pytest.raises(ValueError, match=r"other.pth has no tensor '_conv_stem.weight'"):
        lite(weights=str(other)).build()
    wide = lite("efficientnet_lite2")
    path = saved(tmp_path / "wide.pth", state_of(wide, wide.build()), True)
    with pytest.raises(ValueError, match=r"wide.pth has .* weights of another EfficientNet"):
        lite(weights=str(path)).build()

"""PyTorch files: the named tensors of a checkpoint, read without unpickling it.

`torch.save` writes a pickle, and a pickle may run any code when it is loaded. The reader here
follows the few operations that a dict of tensors needs and calls nothing that a file names; a file
with any other operation is refused. Both layouts are read: pickles with the numbers behind them (up
to PyTorch 1.5) and a ZIP archive (since 1.6); see `torch/serialization.py` of PyTorch.
"""

from __future__ import annotations

import io
import pickletools
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C  # Of a file of the old layout.

_DTYPES = {
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


# What bytes in the wrong place make of the readers below, and of Python's of ZIP archives.
_DAMAGED = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


class _Storage(NamedTuple):
    """Numbers in the file, before their bytes are known."""

    key: str
    dtype: np.dtype[Any]
    length: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_ARCHIVE = b"PK"


class _Refused(Exception):
    """What a file holds besides tensors."""


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a file that holds a ``state_dict``, by name.

    Raises:
        ValueError: The file is damaged, no PyTorch file, or holds anything else.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _of_archive(archive)
        # From memory, no length that a file claims takes more than the file has.
        content = path.read_bytes()
        if content.startswith(_ARCHIVE):  # Its first letter is an operation of pickles, too.
            raise zipfile.BadZipFile("the end of the archive is missing")
        return _of_pickles(io.BytesIO(content))
    except _Refused as error:
        raise ValueError(
            f"{path} holds {error}, expected named tensors alone; save the network's "
            "state_dict() with torch.save."
        ) from None
    except _DAMAGED as error:
        raise ValueError(
            f"{path} is damaged or no PyTorch file ({error}); download it again."
        ) from None


def _of_archive(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    folder = pickled.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist():
        order = archive.read(f"{folder}byteorder")
        if order != b"little":
            raise _Refused(f"numbers of the byte order {order!r}")

    def stored(storage: _Storage) -> bytes:
        member = archive.getinfo(f"{folder}data/{storage.key}")
        _require_size(storage, member.file_size // storage.dtype.itemsize)
        return archive.read(member)

    return _arrays(_tensors(_followed(io.BytesIO(archive.read(pickled)))), stored)


def _of_pickles(file: io.BytesIO) -> dict[str, np.ndarray]:
    magic, _, system, holds, keys = (_followed(file) for _ in range(5))
    if magic != _MAGIC:
        raise ValueError("it does not begin as one")
    if not system["little_endian"]:
        raise _Refused("numbers of the byte order 'big'")
    tensors = _tensors(holds)
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    stored: dict[str, bytes] = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        _require_size(storages[key], count)
        stored[key] = file.read(count * storages[key].dtype.itemsize)
    return _arrays(tensors, lambda storage: stored[storage.key])


def _require_size(storage: _Storage, count: int) -> None:
    if count != storage.length:
        raise ValueError(f"storage {storage.key} has {count} numbers, not {storage.length}")


def _tensors(holds: Any) -> dict[str, _Tensor]:
    if not isinstance(holds, dict):
        raise _Refused(f"a {type(holds).__name__}")
    for name, each in holds.items():
        if not isinstance(each, _Tensor) or not isinstance(name, str):
            raise _Refused(f"{name!r}, a {type(each).__name__}")
    return holds


def _arrays(
    tensors: Mapping[str, _Tensor], stored: Callable[[_Storage], bytes]
) -> dict[str, np.ndarray]:
    """Returns arrays of their own memory; NumPy checks that each lies within its storage."""
    arrays: dict[str, np.ndarray] = {}
    for name, (storage, offset, shape, strides) in tensors.items():
        size = storage.dtype.itemsize
        array = np.ndarray(
            shape,
            storage.dtype,
            stored(storage),
            offset * size,
            tuple(stride * size for stride in strides),
        )
        arrays[name] = array.copy()
    return arrays


def _followed(file: io.BytesIO) -> Any:
    """Returns the value of the next pickle of a file, made of dicts, lists and `_Tensor` alone."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        values = stack[start:]
        del stack[start:]
        return values

    def last(count: int) -> list[Any]:
        values = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return values

    def fill(pairs: list[Any]) -> None:
        stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))

    def call() -> None:
        function, arguments = last(2)
        stack.append(_CALLS[function](*arguments))

    actions: dict[str, Callable[[Any], Any]] = {
        "MARK": lambda _: marks.append(len(stack)),
        "EMPTY_DICT": lambda _: stack.append({}),
        "EMPTY_LIST": lambda _: stack.append([]),
        "EMPTY_TUPLE": lambda _: stack.append(()),
        "NONE": lambda _: stack.append(None),
        "NEWTRUE": lambda _: stack.append(True),
        "NEWFALSE": lambda _: stack.append(False),
        "TUPLE": lambda _: stack.append(tuple(since_mark())),
        "TUPLE1": lambda _: stack.append(tuple(last(1))),
        "TUPLE2": lambda _: stack.append(tuple(last(2))),
        "TUPLE3": lambda _: stack.append(tuple(last(3))),
        "SETITEM": lambda _: fill(last(2)),
        "SETITEMS": lambda _: fill(since_mark()),
        "APPEND": lambda _: stack[-2].append(stack.pop()),
        "APPENDS": lambda _: (values := since_mark(), stack[-1].extend(values)),
        "GLOBAL": lambda name: stack.append(_named(name)),
        "REDUCE": lambda _: call(),
        "BINPERSID": lambda _: stack.append(_storage(*stack.pop())),
        "BUILD": lambda _: stack.pop(),  # Attributes, such as the versions of layers.
    }
    actions |= dict.fromkeys(("PROTO", "FRAME"), lambda _: None)
    actions |= dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINFLOAT"),
        stack.append,
    )
    actions |= dict.fromkeys(
        ("BINPUT", "LONG_BINPUT"), lambda place: memo.__setitem__(place, stack[-1])
    )
    actions["MEMOIZE"] = lambda _: memo.__setitem__(len(memo), stack[-1])
    actions |= dict.fromkeys(("BINGET", "LONG_BINGET"), lambda place: stack.append(memo[place]))

    with warnings.catch_warnings():
        # Of escapes in texts of old protocols, which are refused in any case.
        warnings.simplefilter("ignore", DeprecationWarning)
        for operation, argument, _ in pickletools.genops(file):
            if operation.name == "STOP":
                return stack.pop()
            if operation.name not in actions:
                raise _Refused(f"the pickle operation {operation.name}")
            actions[operation.name](argument)
    raise ValueError("it ends early")


def _named(name: str) -> str:
    """Returns the name of a class or function, which is never imported."""
    if name not in _CALLS and name.removeprefix("torch ") not in _DTYPES:
        raise _Refused(f"the class or function {name.replace(' ', '.')}")
    return name


def _storage(kind: str, dtype: str, key: str, device: str, count: int, *view: Any) -> _Storage:
    if kind != "storage" or any(view):
        raise _Refused(f"a storage of the form {kind}, {view}")
    return _Storage(key, np.dtype(_DTYPES[dtype.removeprefix("torch ")]), count)


def _tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *hooks: Any
) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise _Refused(f"a tensor of a {type(storage).__name__}")
    return _Tensor(storage, offset, shape, strides)


def _parameter(tensor: _Tensor, *hooks: Any) -> _Tensor:
    return tensor


_CALLS: Mapping[str, Callable[..., Any]] = {
    "collections OrderedDict": dict,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}

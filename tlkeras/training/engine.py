"""Engines: what runs the frozen layers over a data set, TensorFlow or LiteRT.

LiteRT's kernels for processors, those of XNNPACK, run depthwise and grouped convolutions several
times as fast as TensorFlow's; dense layers run near the peak of the processor in both. So networks
of such convolutions take 0.2 to 0.7 of the time, see ``benchmarks/frozen.py``. First the network
has to be converted, which takes seconds; the feature cache keeps the file by the digest of the
network. The number of examples and of these multiplications decide whether that pays, never a
clock: two fits of a seed are equal to the bit, so both need the same engine. Its name and version
are in the content key of the features.

In LiteRT a row has the same bits in every batch and on every number of threads.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import hashlib
import importlib.metadata
import math
import os
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tlkeras import hardware
from tlkeras.data.batches import Data
from tlkeras.frameworks import keras, muted, tf
from tlkeras.model import folding, graph, lengths
from tlkeras.model.transfer_model import TransferModel
from tlkeras.training import feature_store
from tlkeras.training.feature_store import Cache

# Multiplications of depthwise and grouped convolutions in all training examples, for each core,
# from which on the conversion pays: a second, for 750 pictures of MobileNetV2 at 160 pixels.
_LEAST = 4e9

# Bytes of weights. The conversion has them in memory several times, and every interpreter twice.
_MOST = 128e6

# Rows that run at a time: their activations fit into the caches of a core.
_ROWS = 4

# How far features may be from TensorFlow's, of the largest one.
_TOLERANCE = 1e-5

# How the names of entries begin that hold why LiteRT was refused.
_REFUSED = "refused"


class Refused(Exception):
    """LiteRT cannot run a network, or it gives other numbers than TensorFlow."""


@dataclasses.dataclass(frozen=True)
class Engine:
    """What runs the frozen layers.

    Attributes:
        key: LiteRT's name and version; empty for TensorFlow.
        reason: Why it is TensorFlow for work that LiteRT would pay for.
    """

    key: str = ""
    reason: str = ""


def chosen(model: TransferModel, data: Data, cache: Cache) -> Engine:
    """Returns the engine of every pass over these data, whatever is missing in the cache.

    Args:
        model: The model.
        data: The data; the size of their training split decides for all splits.
        cache: The cache; it remembers for which models LiteRT was refused.
    """
    if _work(model.body) * data.count("train") < _LEAST * _cores():
        return Engine()
    if reason := next(_reasons(model, cache), ""):
        return Engine(reason=reason)
    return Engine(key=_version())


def refuse(model: TransferModel, cache: Cache, reason: str) -> Engine:
    """Returns TensorFlow, from now on for every pass of this model with this cache."""
    _store(cache, _refusal(model), reason.encode())
    return Engine(reason=reason)


def litert(
    prefixes: Mapping[str, keras.Model], cache: Cache, blocks: Sequence[str]
) -> Callable[[Any], Mapping[str, list[np.ndarray]]]:
    """Returns a function from a batch of inputs to the activations before each of the blocks.

    Args:
        prefixes: The frozen layers before each block.
        cache: The cache, which keeps the converted network.
        blocks: The blocks.

    Raises:
        Refused: The network cannot be converted. The function raises it if the first rows differ.
    """
    if not blocks:
        return lambda inputs: {}
    inputs = prefixes[blocks[0]].input
    outputs = {block: keras.tree.flatten(prefixes[block].output) for block in blocks}
    network = keras.Model(inputs, outputs)
    name = _entry("litert", network)
    if file := _stored(cache, name):
        return _LiteRT(file, outputs)
    file = _converted(network)

    def agreed(first: Sequence[np.ndarray]) -> None:
        _require_equal(converted.rows(first), _run(network, first))
        _store(cache, name, file)

    converted = _LiteRT(file, outputs, agreed)
    return converted


class _LiteRT:
    """A converted network, in one interpreter for every core where memory allows.

    Pieces of a batch run beside each other: so no thread waits for another one after each layer.
    """

    def __init__(
        self,
        file: bytes,
        outputs: Mapping[str, list[Any]],
        check: Callable[[Any], None] | None = None,
    ) -> None:
        """Opens a file with these outputs; `check` gets the first rows that it runs."""
        count = max(min(_cores(), int(_MOST // len(file))), 1)
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(_opened(file, _cores() // count))
        self._pool = concurrent.futures.ThreadPoolExecutor(count)
        self._structure, self._check = outputs, check

    def __call__(self, inputs: Any) -> dict[str, list[np.ndarray]]:
        """Returns the activations of a batch by block."""
        arrays = [np.asarray(each) for each in keras.tree.flatten(inputs)]
        count = len(arrays[0])
        starts = range(0, count, _ROWS)
        pieces = [_filled([each[i : i + _ROWS] for each in arrays]) for i in starts]
        if self._check:
            check, self._check = self._check, None
            check(pieces[0])
        columns = zip(*self._pool.map(self.rows, pieces), strict=True)
        flat = [np.concatenate(column)[:count] for column in columns]
        return keras.tree.pack_sequence_as(self._structure, flat)

    def rows(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the outputs, in flat order, of as many rows as the file takes."""
        interpreter = self._free.get()
        try:
            for details, array in zip(interpreter.get_input_details(), arrays, strict=True):
                interpreter.set_tensor(details["index"], array)
            interpreter.invoke()
            outputs = interpreter.get_output_details()
            return [interpreter.get_tensor(details["index"]) for details in outputs]
        finally:
            self._free.put(interpreter)


def _opened(file: bytes, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    with muted():  # LiteRT prints the name of its delegate.
        interpreter = Interpreter(model_content=file, num_threads=threads)
        interpreter.allocate_tensors()
    return interpreter


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _work(network: keras.Model) -> int:
    """Returns the multiplications of one example by kernels that do not mix the channels."""
    layers = keras.layers
    total = 0
    for node in graph.nodes(network):
        layer: Any = node.operation
        if isinstance(layer, (layers.DepthwiseConv2D, layers.SeparableConv2D)) or (
            isinstance(layer, layers.Conv2D) and layer.groups > 1
        ):
            places = math.prod(side or 1 for side in node.output_tensors[0].shape[1:-1])
            total += places * math.prod(layer.weights[0].shape)
    return total


def _reasons(model: TransferModel, cache: Cache) -> Iterator[str]:
    """Yields what speaks against LiteRT."""
    if hardware.replicas() > 1:
        yield "several replicas train"
    if kinds := {each.device_type for each in tf.config.list_logical_devices()} - {"CPU"}:
        yield f"there is a {min(kinds)}"
    if lengths.vary(model.backbone, model.body):
        yield "LiteRT wants inputs of one length"
    precisions = {layer.compute_dtype for layer in model.body._flatten_layers()}
    if others := precisions - {"float32"}:
        yield f"the network computes in {min(others)}"
    size = sum(math.prod(each.shape) * each.dtype.size for each in _variables(model.body))
    if size > _MOST:
        yield f"weights of {size / 1e6:,.0f} MB would be in memory several times"
    # Without an entry of any network there is no reason to digest this one.
    if any(cache.folder.glob(f"{_REFUSED}-*")) and (said := _stored(cache, _refusal(model))):
        yield said.decode()


def _variables(network: keras.Model) -> list[Any]:
    return [each.value for each in network.variables]


@functools.cache
def _version() -> str:
    return f"litert {importlib.metadata.version('ai-edge-litert')}"


def _refusal(model: TransferModel) -> str:
    return _entry(_REFUSED, model.body)


def _entry(kind: str, network: keras.Model) -> str:
    """Returns the name of an entry of the cache; it holds what becomes of a network in LiteRT."""
    made = (graph.digest(network), _version(), tf.__version__, keras.__version__, str(_ROWS))
    return f"{kind}-{hashlib.sha256(' '.join(made).encode()).hexdigest()[:16]}"


def _stored(cache: Cache, name: str) -> bytes:
    """Returns the bytes of an entry, empty if there is none."""
    rows = feature_store.Rows(cache.folder / name)
    if not len(rows):
        return b""
    os.utime(cache.folder / name)  # The cache evicts the least recently used entry first.
    (found,) = rows.read(np.zeros(1, np.int64))
    return found.tobytes()


def _store(cache: Cache, name: str, content: bytes) -> None:
    """Writes the bytes of an entry, if the cache has room."""
    with feature_store.locked(cache.folder, [name]):
        wanted = {name: [len(content)]}
        if feature_store.granted(cache.folder, wanted, cache.limit)[name]:
            writer = feature_store.Writer(cache.folder / name, 0, 1)
            writer.add(0, [np.frombuffer(content, np.uint8)[None]])


def _run(network: keras.Model, arrays: Sequence[Any]) -> list[Any]:
    """Returns the outputs of a network in TensorFlow; inputs and outputs are in flat order."""
    inputs = keras.tree.pack_sequence_as(network.input, [*map(tf.convert_to_tensor, arrays)])
    return keras.tree.flatten(folding.run(network, inputs))


def _converted(network: keras.Model) -> bytes:
    """Returns the file of a network that takes `_ROWS` rows.

    Raises:
        Refused: LiteRT lacks an operation of the network.
    """
    tensors = keras.tree.flatten(network.input)
    signature = [tf.TensorSpec([_ROWS, *each.shape[1:]], each.dtype) for each in tensors]
    traced = tf.function(
        lambda *arrays: _run(network, arrays), input_signature=signature, autograph=False
    )
    # With the network as a second argument the file gives NaN (TensorFlow 2.21, Keras 3.15).
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()])
    try:
        with muted():  # The converter prints its options.
            return converter.convert()
    except Exception as error:  # Of several types; the text says which operation it lacks.
        (said, *_) = str(error).strip().splitlines() or [type(error).__name__]
        raise Refused(f"LiteRT cannot run the network ({said[:100]})") from None


def _filled(piece: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns arrays with as many rows as LiteRT runs; the last one repeats."""
    places = np.minimum(np.arange(_ROWS), len(piece[0]) - 1)
    return [each if len(each) == _ROWS else each[places] for each in piece]


def _require_equal(found: Sequence[np.ndarray], expected: Sequence[Any]) -> None:
    for one, other in zip(found, map(np.asarray, expected), strict=True):
        if one.shape != other.shape:
            raise Refused(f"LiteRT gives {one.shape} for {other.shape}")
        off = float(np.abs(one - other).max() / max(np.abs(other).max(), np.finfo("f").tiny))
        if not off <= _TOLERANCE:
            raise Refused(f"LiteRT's numbers differ by {off:.1e}, more than {_TOLERANCE:.0e}")

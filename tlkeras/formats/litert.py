"""LiteRT files: converted from a fitted model, run, looked into, and written without repetition."""

from __future__ import annotations

import collections
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tlkeras.exporter import Predict
from tlkeras.formats import bert_inputs, signature
from tlkeras.frameworks import muted, tf
from tlkeras.model import constants, graph, precision, tail

if TYPE_CHECKING:
    from tlkeras.model.transfer_model import TransferModel

_SIGNATURE = "serving_default"

# Where the converter records which release of the runtime first had every operation of the file.
_RUNTIME = b"min_runtime_version"

# TensorFlow's operations without an integer kernel in LiteRT, and their names there. A test checks
# each by a conversion.
_FLOAT_ONLY = {
    "Ceil": "CEIL",
    "Cos": "COS",
    "Cumsum": "CUMSUM",
    "Elu": "ELU",
    "Floor": "FLOOR",
    "FloorDiv": "FLOOR_DIV",
    "FloorMod": "FLOOR_MOD",
    "Neg": "NEG",
    "NonMaxSuppressionV4": "NON_MAX_SUPPRESSION_V4",
    "Rint": "ROUND",
    "Round": "ROUND",
    "Sign": "SIGN",
    "Sin": "SIN",
    "Square": "SQUARE",
}

# The alignment of weights in the schema: LiteRT reads them where they lie in the file.
_ALIGNMENT = 16


def saved(model: TransferModel, names: Sequence[str] = ()) -> Path:
    """Returns a SavedModel in float32 that serves one preprocessed example; see `_made`.

    With `names` the only input has the first of them; inputs like it have the others, for clients
    that send more than the network reads.
    """
    network = precision.float32(model.full)

    specs = signature.specs(model, batch=1)
    if names:
        (only,) = specs.values()
        specs = {name: tf.TensorSpec(only.shape, only.dtype, name=name) for name in names}

    def serve(inputs: dict[str, Any]) -> dict[str, Any]:
        read = {name: inputs[name] for name in names[:1] or specs}
        outputs = network(signature.unnamed(read, network), training=False)
        return model.task.served(outputs)

    return _made(model, "_".join(["whole", *names]), serve, specs, [network])


def saved_halves(model: TransferModel) -> tuple[Path, Path]:
    """Returns two SavedModels in float32: the network, and its tail; see `_made`."""
    cut = tail.halves(model)

    def network(inputs: dict[str, Any]) -> dict[str, Any]:
        return cut.network(signature.unnamed(inputs, model.full))

    return (
        _made(model, "network", network, signature.specs(model, batch=1), cut.models),
        _made(model, "tail", cut.tail, cut.crossing, cut.models),
    )


def _made(
    model: TransferModel, name: str, serve: Any, specs: dict[str, Any], networks: Sequence[Any]
) -> Path:
    """Returns a SavedModel of a function, its weights constants.

    All that is converted from a model shares it. It is gone with the model, and made anew when the
    weights have changed.
    """
    folder = _kept(model) / name
    if not folder.exists():
        weights = constants.read(networks)

        def constant(inputs: dict[str, Any]) -> dict[str, Any]:
            with constants.scope(weights):
                return serve(inputs)

        traced = tf.function(constant, input_signature=[specs], autograph=False)
        partial = folder.with_suffix(".partial")
        signatures = {_SIGNATURE: traced.get_concrete_function()}
        tf.saved_model.save(tf.Module(), str(partial), signatures)
        partial.rename(folder)
    return folder


class _Kept(NamedTuple):
    """The folder of what is made of a model, as long as it has the weights of this digest."""

    digest: str
    folder: Path
    remove: Callable[[], object]


_KEPT: weakref.WeakKeyDictionary[TransferModel, _Kept] = weakref.WeakKeyDictionary()


def _kept(model: TransferModel) -> Path:
    """Returns the folder of what is made of a model with the weights that it has now."""
    digest = f"{model.task.full()} {graph.digest(model.full)}"
    before = _KEPT.get(model)
    if before and before.digest == digest:
        return before.folder
    if before:
        before.remove()
    folder = Path(tempfile.mkdtemp())
    remove = weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    _KEPT[model] = _Kept(digest, folder, remove)
    return folder


def converter(saved: Path) -> Any:
    """Returns a converter of a SavedModel to built-in operations; set it before `converted`."""
    found = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    found.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return found


def converted(converter: Any) -> bytes:
    """Returns the file that a converter makes."""
    with muted():  # The converter prints its options.
        return converter.convert()


def exact(saved: Path) -> bytes:
    """Returns the file of a SavedModel in float32, converted once."""
    file = saved.with_suffix(".tflite")
    if not file.exists():
        file.write_bytes(converted(converter(saved)))
    return file.read_bytes()


def load(path: Path, threads: int | None = None) -> Predict:
    """Returns a function that runs a file, one example after another.

    A batch is an array, or a dict of arrays by the names of the inputs. Inputs of uint8 are rounded
    and clipped, other integers taken unchanged. Integer outputs are scaled to numbers.
    """
    run = interpreter(path, threads).get_signature_runner(_SIGNATURE)
    inputs, outputs = run.get_input_details(), run.get_output_details()
    scales = {name: output["quantization"] for name, output in outputs.items()}

    def predict(batch: Any) -> dict[str, Any]:
        given = bert_inputs.completed(batch, inputs)
        arrays = {
            name: _stored(array, inputs[name])
            for name, array in signature.named(given, inputs).items()
        }
        count = len(next(iter(arrays.values())))
        rows = [
            run(**{name: array[i : i + 1] for name, array in arrays.items()}) for i in range(count)
        ]
        served = {name: np.concatenate([row[name] for row in rows]) for name in outputs}
        return {name: _real(array, *scales[name]) for name, array in served.items()}

    return predict


def interpreter(path: Path, threads: int | None = None) -> Any:
    """Returns an interpreter of a file, on so many threads or as many as LiteRT chooses.

    Raises:
        ValueError: There is no such file, or it is damaged.
    """
    from ai_edge_litert.interpreter import Interpreter

    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    try:
        with muted():  # LiteRT prints the name of its delegate.
            opened = Interpreter(model_path=str(path), num_threads=threads)
            opened.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        size = path.stat().st_size
        raise ValueError(
            f"{path} cannot be loaded: its {size:,} bytes are damaged, cut off or no TFLite file "
            f"({error}). Export it again."
        ) from None
    return opened


def operations(file: bytes) -> tuple[dict[str, int], list[str]]:
    """Returns how often each operation occurs, and which of them compute in anything but integers.

    An operation computes in what its widest tensor holds: one that turns float into integer, too,
    is no integer operation.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Delegates would stand in for the operations that they take over.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    opened: Any = Interpreter(model_content=file, experimental_op_resolver_type=plain)
    kinds = {tensor["index"]: tensor["dtype"] for tensor in opened.get_tensor_details()}
    counts: collections.Counter[str] = collections.Counter()
    inexact: set[str] = set()
    for operation in opened._get_ops_details():
        name = operation["op_name"]
        counts[name] += 1
        touched = (kinds.get(i) for i in (*operation["inputs"], *operation["outputs"]))
        if any(kind is not None and np.issubdtype(kind, np.floating) for kind in touched):
            inexact.add(name)
    return dict(counts.most_common()), sorted(inexact)


def inputs(file: bytes) -> dict[str, int]:
    """Returns the tensor of every input by its name, in the order of the graph."""
    model = parsed(file)
    names = {entry.tensorIndex: entry.name.decode() for entry in model.signatureDefs[0].inputs}
    return {names[place]: int(place) for place in model.subgraphs[0].inputs}


def runtime(file: bytes) -> str:
    """Returns the oldest release of TensorFlow Lite that runs a file, ``2.4.0``.

    Empty where the converter knows none that has every operation in its version.
    """
    model = parsed(file)
    for entry in model.metadata or ():
        if entry.name == _RUNTIME:
            return bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode()
    return ""


def state_runtime(model: Any, releases: Sequence[str]) -> None:
    """States in a parsed model the newest of these releases as the oldest that runs it.

    It states none if one of them is empty: it is not known then.
    """
    newest = max(releases, key=lambda text: [int(part) for part in text.split(".") if part])
    for entry in model.metadata or ():
        if entry.name == _RUNTIME:
            text = (newest if all(releases) else "").encode().ljust(16, b"\0")
            model.buffers[entry.buffer].data = np.frombuffer(text, np.uint8)


def float_only(model: TransferModel) -> list[str]:
    """Returns the operations of a model that LiteRT has in float only, as the network is traced.

    What depends on no input is left out, because the converter computes it beforehand. So is the
    tail of a task that needs float.
    """
    specs = signature.specs(model, batch=1)
    run = tail.halves(model).network if model.task.needs_float else model.served

    @tf.function(input_signature=[specs], autograph=False)
    def serve(inputs: Any) -> Any:
        return run(signature.unnamed(inputs, model.full))

    graph = serve.get_concrete_function().graph
    reached = {tensor.ref() for tensor in graph.inputs[: len(specs)]}
    found = set()
    for operation in graph.get_operations():
        sources = [tensor for tensor in operation.inputs if tensor.ref() in reached]
        if sources:
            reached |= {tensor.ref() for tensor in operation.outputs}
        if operation.type in _FLOAT_ONLY and any(each.dtype.is_floating for each in sources):
            found.add(_FLOAT_ONLY[operation.type])
    return sorted(found)


def parsed(file: bytes) -> Any:
    """Returns a model as the mutable objects of the schema."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(file, 0))


def written(model: Any) -> bytes:
    """Returns the file of a model, equal arrays written once.

    Every output channel of an integer network has a zero point of eight bytes, and all are 0: a
    twelfth of MobileNetV2's file.
    """
    import flatbuffers

    class Builder(flatbuffers.Builder):
        """Writes equal arrays once, buffers aligned as in the schema."""

        known: dict[tuple[str, bytes], int]

        def CreateNumpyVector(self, x: Any) -> int:
            key = (x.dtype.str, x.tobytes())
            if key not in self.known:
                if x.dtype == np.uint8:
                    self.Prep(_ALIGNMENT, x.nbytes)
                self.known[key] = super().CreateNumpyVector(x)
            return self.known[key]

    builder = Builder(1024)
    builder.known = {}
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _stored(array: Any, details: dict[str, Any]) -> Any:
    """Returns a batch of inputs in the type of the file's tensor."""
    dtype, (scale, zero) = details["dtype"], details["quantization"]
    if dtype == np.uint8:
        array = np.clip(np.rint(np.divide(array, scale or 1.0) + zero), 0, 255)
    return np.asarray(array).astype(dtype)


def _real(array: Any, scale: float, zero: int) -> Any:
    """Returns the numbers that the integers of a tensor stand for; floats as they are."""
    return (array.astype(np.float32) - zero) * np.float32(scale) if scale else array

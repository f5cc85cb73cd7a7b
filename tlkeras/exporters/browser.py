"""Browser: a page that tries the model on the user's own pictures or texts, on their machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tlkeras import files
from tlkeras.exporter import UNSTATED, Exporter, Usage, existing, require_fits_one_file
from tlkeras.formats import litert, npm, page_inputs, signature
from tlkeras.frameworks import tf
from tlkeras.task import Meaning, Output

if TYPE_CHECKING:
    from tlkeras.model.transfer_model import TransferModel

PAGE = Path(__file__).parents[1] / "formats" / "try_page"

# Pinned to the byte, so the page runs the code that the tests ran. `npm view NAME dist.integrity`
# prints the digest of another version.
CORE = npm.Package(
    "@litertjs/core",
    "2.5.3",
    "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
)
LOADER = npm.Package(
    "@litertjs/wasm-utils",
    "2.5.3",
    "sha512-4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
)

# The runtimes of one thread: those of several run only where a server sends special headers. The
# second is for browsers without relaxed SIMD.
_RUNTIMES = ("litert_wasm_internal", "litert_wasm_compat_internal")
_MEMBERS = {
    CORE: [
        "package.json",
        "dist/index.js",
        *(f"wasm/{name}.{end}" for name in _RUNTIMES for end in ("js", "wasm")),
    ],
    LOADER: ["package.json", "dist/index.js"],
}


class Browser(Exporter, name="browser"):
    """A folder ``try`` with a page that runs the model on pictures and the camera, or on texts.

    It shows the probabilities of classes, a number, the tags of words, or draws a mask or boxes
    over the picture. Any file server shows it, ``python -m http.server --directory try``. The page
    needs no network, and its policy forbids one. npm fetches LiteRT.js, which runs the model,
    during the export; it lies in ``try/npm``, its licence beside it. The page resizes as `squash`
    does and cuts texts as `WordPiece` and `BytePairs` do; the network is float32. Pixels may differ
    by a few levels where the browser decodes JPEG otherwise than TensorFlow.
    """

    def files(self):
        return ("try",)

    def fingerprint(self):
        digest = hashlib.sha256()
        for path in sorted(PAGE.iterdir()):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def fits(self, model):
        require_fits_one_file(self, model)
        page_inputs.settings(model)
        _shown(model)

    def write(self, model, samples, out, origin=UNSTATED):
        out = existing(out)
        reads, shows = page_inputs.settings(model), _shown(model)
        fetched = {package: npm.read(package, members) for package, members in _MEMBERS.items()}
        folder = out / "try"
        for package, contents in fetched.items():
            for name, content in contents.items():
                path = folder / "npm" / package.name / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        (folder / "npm" / "LICENSE").write_text(_licence(), encoding="utf-8")
        for path in PAGE.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        network = litert.exact(litert.saved(model))
        (folder / "model.tflite").write_bytes(network)
        about = {
            "classes": model.classes if shows["labelled"] else [],
            "network": model.backbone.name,
            "input": reads,
            "output": shows,
            "bytes": len(network),
            "runtime": f"LiteRT.js {CORE.version}",
        }
        for name, text in page_inputs.files(model).items():
            (folder / name).write_text(text, encoding="utf-8")
        files.write_json(folder / "model.json", about)

    def load(self, out):
        return litert.load(out / "try" / "model.tflite")

    def load_on(self, out, threads):
        return litert.load(out / "try" / "model.tflite", threads)

    def usage(self, backbone, task):
        return [Usage("try", "sh", _USE)]


class _Shown(NamedTuple):
    """How the page shows what a task serves: the script, and the axes of each tensor."""

    module: str
    ranks: tuple[int, ...]


# By the meanings of the outputs, in alphabetical order.
_SHOWN: Mapping[tuple[Meaning, ...], _Shown] = {
    ("boxes", "category", "count", "scores"): _Shown("boxes", (3, 2, 1, 2)),
    ("mask",): _Shown("mask", (4,)),
    ("scores",): _Shown("scores", (2,)),
    ("tokens",): _Shown("tokens", (3,)),
    ("vector",): _Shown("number", (2,)),
}


# More are no answer that a person reads.
_NUMBERS = 32


def _shown(model: TransferModel) -> dict[str, Any]:
    """Returns what the page needs for the outputs of a model.

    Raises:
        ValueError: The page shows no such outputs.
    """
    inputs = {
        name: tf.zeros([1, *spec.shape[1:]], spec.dtype)
        for name, spec in signature.specs(model).items()
    }
    served = model.served(signature.unnamed(inputs, model.full))
    shapes = {name: tuple(tensor.shape) for name, tensor in served.items()}
    outputs = sorted(model.task.outputs(), key=lambda output: output.meaning)
    shown = _SHOWN.get(tuple(output.meaning for output in outputs))
    if shown is None or not _fit(shown, outputs, shapes, model.classes):
        raise ValueError(
            "The page of the browser exporter shows the probabilities of classes, a mask, boxes, "
            f"the tags of words or a number, and the task {model.task.name} serves {shapes}; "
            "leave this exporter out."
        )
    named = next((output for output in outputs if output.labelled), outputs[0])
    return {
        "module": shown.module,
        "labelled": named.labelled,
        "names": {output.meaning: output.name for output in outputs},
        "shape": shapes[named.name],
        "others": named.others,
        "threshold": named.threshold,
        "abstains_below": named.abstains_below,
    }


def _fit(
    shown: _Shown,
    outputs: Sequence[Output],
    shapes: Mapping[str, tuple[int, ...]],
    classes: Sequence[str],
) -> bool:
    """Returns whether tensors have the axes that the page knows, and as many values as it shows."""
    found = [shapes.get(output.name, ()) for output in outputs]
    named = [
        (shape, len(output.others) + len(classes))
        for output, shape in zip(outputs, found, strict=True)
        if output.labelled and output.meaning != "category"
    ]
    if tuple(map(len, found)) != shown.ranks:
        return False
    vectors = [
        shape for output, shape in zip(outputs, found, strict=True) if output.meaning == "vector"
    ]
    return all(shape[-1] == count for shape, count in named) and all(
        shape[-1] <= _NUMBERS for shape in vectors
    )


def _licence() -> str:
    """Returns the text of the Apache License 2.0, under which both packages are published.

    They hold no copy; tlkeras, under the same licence, was installed with one.
    """
    # In a checkout there is a second one beside the package, without files.
    found = importlib.metadata.distributions(name="tlkeras")
    text = next(filter(None, (one.read_text("licenses/LICENSE") for one in found)), None)
    if text is None:
        raise ValueError(
            "The licence that the page's packages are under comes with tlkeras's installation, "
            "and tlkeras is not installed here; do so with pip and run again."
        )
    return text


_USE = """\
python -m http.server --bind localhost  # In the folder of this card.
# Then open http://localhost:8000/try/ in a browser.
"""

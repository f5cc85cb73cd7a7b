"""Browser: a page that tries the model on the user's own pictures, on their own machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlkeras import files
from tlkeras.exporter import UNSTATED, Exporter, Usage, existing
from tlkeras.formats import litert, npm, signature
from tlkeras.images.pixels import squash

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
    """A folder ``try`` with a page that runs the model on pictures and the camera.

    Any file server shows it, ``python -m http.server --directory try``. The page needs no network,
    and its policy forbids one. npm fetches LiteRT.js, which runs the model, during the export; it
    lies in ``try/npm``, its licence beside it. The page resizes as `squash` does, the network is
    float32. Pixels may differ by a few levels where the browser decodes JPEG otherwise than
    TensorFlow.
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
        _classes_served(model, _squashed(model))

    def write(self, model, samples, out, origin=UNSTATED):
        out = existing(out)
        size = _squashed(model)
        served = _classes_served(model, size)
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
        with tempfile.TemporaryDirectory() as saved:
            network = litert.converted(litert.converter(litert.saved(model, Path(saved))))
        (folder / "model.tflite").write_bytes(network)
        (name,) = model.inputs
        about = {
            "classes": model.classes,
            "network": model.backbone.name,
            "input": name,
            "output": served,
            "size": size,
            "bytes": len(network),
            "runtime": f"LiteRT.js {CORE.version}",
        }
        files.write_json(folder / "model.json", about)

    def load(self, out):
        return litert.load(out / "try" / "model.tflite")

    def load_on(self, out, threads):
        return litert.load(out / "try" / "model.tflite", threads)

    def usage(self, backbone, task):
        return [Usage("try", "sh", _USE)]


def _squashed(model: TransferModel) -> int:
    """Returns the side of the squashed picture that the network takes.

    Raises:
        ValueError: The backbone prepares its inputs in another way than the page does.
    """
    backbone, kinds, inputs = model.backbone, model.backbone.raw(), model.inputs
    if len(inputs) == 1 and [kind.meaning for kind in kinds.values()] == ["image"]:
        (key,), (pixels,) = kinds, inputs.values()
        size = pixels.shape[1]
        # Larger one way and smaller the other, so that every other way of resizing differs.
        probe = np.random.default_rng(0).integers(0, 256, (3 * size, size // 2 + 1, 3), np.uint8)
        if tuple(pixels.shape) == (None, size, size, 3):
            (prepared,) = signature.named(backbone.preprocess({key: probe}), inputs).values()
            if np.allclose(prepared, squash(probe, size), atol=1e-2):
                return size
    raise ValueError(
        "The page of the browser exporter prepares pictures as tlkeras.images.pixels.squash does, "
        f"and the backbone {backbone.name} does otherwise; leave this exporter out."
    )


def _classes_served(model: TransferModel, size: int) -> str:
    """Returns the name of the output that has one probability for each class.

    Raises:
        ValueError: The task serves none.
    """
    inputs = dict.fromkeys(model.inputs, np.zeros((1, size, size, 3), np.float32))
    served = model.served(signature.unnamed(inputs, model.full))
    shapes = {name: tuple(tensor.shape) for name, tensor in served.items()}
    for output in model.task.outputs():
        if output.meaning == "scores" and shapes.get(output.name) == (1, len(model.classes)):
            return output.name
    raise ValueError(
        "The page of the browser exporter shows the probabilities of classes, and the task "
        f"{model.task.name} serves {shapes}; leave this exporter out."
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

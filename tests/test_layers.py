"""Who may import whom: every module only what stands before it; and how long one may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = """
tlkeras.spec tlkeras.frameworks tlkeras.progress tlkeras.hardware
tlkeras.details
tlkeras.source tlkeras.backbone tlkeras.task tlkeras.exporter tlkeras.recipe
tlkeras.pixels tlkeras.geometry tlkeras.augment
tlkeras.graph tlkeras.replicas tlkeras.precision tlkeras.litert tlkeras.correction
tlkeras.drawing tlkeras.splits tlkeras.pictures tlkeras.records tlkeras.workers
tlkeras.ingest tlkeras.examples
tlkeras.data tlkeras.model tlkeras.metadata tlkeras.shards tlkeras.features tlkeras.training
tlkeras.npm
tlkeras.metrics tlkeras.page tlkeras.charts tlkeras.figures tlkeras.report tlkeras.limits
tlkeras.card
tlkeras.*.*
tlkeras
pipeline.code pipeline.product pipeline.core pipeline.option pipeline.flags
pipeline.example_gen pipeline.statistics_gen pipeline.schema_gen pipeline.example_validator
pipeline.trainer pipeline.pusher pipeline.resolver pipeline.evaluator pipeline.exporter
pipeline.infra_validator pipeline.model_card pipeline.bulk_inferrer
pipeline.config pipeline.gain pipeline.kubeflow pipeline.__main__
pipeline
"""
LAYERS = ORDER.split()
"""From below to above. All members of the families are on one layer: none may import another."""

FAMILIES = ["sources", "backbones", "tasks", "recipes", "exporters"]

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("tlkeras", "pipeline")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def place(module: str) -> int:
    member = any(f"{module}.".startswith(f"tlkeras.{family}.") for family in FAMILIES)
    known = "tlkeras.*.*" if member else module
    assert known in LAYERS, f"{module} has no place in the ORDER of tests/test_layers.py"
    return LAYERS.index(known)


def imported(module: str) -> Iterator[str]:
    """Yields what a module imports when it runs, functions included, type checking not."""
    waiting: list[ast.AST] = [ast.parse(FILES[module].read_bytes())]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=orelse):
                waiting += orelse
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases)
            case ast.ImportFrom(module=str(base), names=aliases, level=0):
                full = (f"{base}.{alias.name}" for alias in aliases)
                yield from (name if name in FILES else base for name in full)
            case ast.ImportFrom():
                raise AssertionError(f"{module} has a relative import")
            case _:
                waiting += ast.iter_child_nodes(node)


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_only_what_stands_below_it(module):
    below = [name for name in imported(module) if name.split(".")[0] in ("tlkeras", "pipeline")]
    upwards = [name for name in below if place(name) >= place(module)]
    assert not upwards, f"{module} looks upwards, at {upwards}"


@pytest.mark.parametrize("module", FILES)
def test_tensorflow_and_absl_come_in_by_one_door_each(module):
    packages = {name.split(".")[0] for name in imported(module)}
    assert module == "tlkeras.frameworks" or not packages & {"tensorflow", "keras"}
    assert module == "pipeline.flags" or "absl" not in packages


@pytest.mark.parametrize("module", FILES)
def test_no_module_is_longer_than_400_lines(module):
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= 400

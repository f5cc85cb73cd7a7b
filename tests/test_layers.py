"""Who may import whom: every module only what stands before it; and how long one may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = """
tlkeras.spec tlkeras.frameworks tlkeras.terminal tlkeras.folders tlkeras.files tlkeras.shipped
tlkeras.wire
tlkeras.hardware
tlkeras.doctor.defects tlkeras.doctor.traits tlkeras.doctor.sets tlkeras.doctor.bands
tlkeras.doctor.hashes
tlkeras.doctor.sketches tlkeras.doctor.pictures tlkeras.doctor.texts
tlkeras.doctor.drift tlkeras.doctor.novelty tlkeras.doctor.samples tlkeras.doctor.statistics
tlkeras.doctor.schemas
tlkeras.images.pixels tlkeras.images.geometry tlkeras.images.drawing tlkeras.images.signatures
tlkeras.images.png tlkeras.images.metadata tlkeras.images.opening tlkeras.images.decoding
tlkeras.images.masks tlkeras.images.framing tlkeras.images.heat
tlkeras.boxes.geometry tlkeras.boxes.suppression tlkeras.boxes.assignment tlkeras.boxes.overlay
tlkeras.texts.tables tlkeras.texts.characters tlkeras.texts.rows tlkeras.texts.wordpiece
tlkeras.texts.cuts tlkeras.texts.composing tlkeras.texts.whole_words
tlkeras.texts.bytepairs tlkeras.texts.folders tlkeras.texts.notes tlkeras.texts.captions
tlkeras.texts.layout tlkeras.texts.encoders
tlkeras.texts.decoders tlkeras.texts.hub_files tlkeras.texts.hub_layers
tlkeras.texts.checkpoints tlkeras.texts.hub_pieces tlkeras.texts.towers
tlkeras.kind tlkeras.kinds.* tlkeras.texts.casing tlkeras.texts.inputs
tlkeras.doctor.duplicates
tlkeras.source tlkeras.boxes.annotations
tlkeras.backbone tlkeras.task tlkeras.recipe tlkeras.augment tlkeras.exporter
tlkeras.doctor.answers tlkeras.doctor.judging
tlkeras.data.splits tlkeras.data.class_folders tlkeras.data.id_list tlkeras.data.lines
tlkeras.data.yaml
tlkeras.data.columns tlkeras.data.cells tlkeras.data.tables tlkeras.data.index
tlkeras.medical.screen tlkeras.medical.confidentiality tlkeras.medical.encodings
tlkeras.medical.dicom_file tlkeras.medical.dicom_picture tlkeras.medical.labels
tlkeras.medical.scans tlkeras.medical.volumes
tlkeras.data.records tlkeras.data.workers tlkeras.data.parts tlkeras.data.planning
tlkeras.data.findings tlkeras.data.ingest
tlkeras.data.reading tlkeras.data.batches tlkeras.data.groups
tlkeras.doctor.reference
tlkeras.model.graph tlkeras.model.towers tlkeras.model.folding tlkeras.model.lengths
tlkeras.model.block_flags tlkeras.model.network_file
tlkeras.model.pyramid
tlkeras.model.decoder tlkeras.model.precision tlkeras.model.tail tlkeras.model.constants
tlkeras.model.transfer_model tlkeras.model.one_tower tlkeras.model.vector
tlkeras.measures.measures tlkeras.measures.checks tlkeras.measures.estimates
tlkeras.measures.ranking tlkeras.measures.confusions tlkeras.measures.calibration
tlkeras.measures.abstention
tlkeras.measures.entities tlkeras.measures.spans
tlkeras.measures.domains tlkeras.measures.parity tlkeras.measures.groups
tlkeras.measures.conformal tlkeras.measures.membership
tlkeras.measures.classification tlkeras.measures.multilabel tlkeras.measures.regression
tlkeras.measures.tagging tlkeras.measures.segmentation
tlkeras.measures.average_precision tlkeras.measures.detection
tlkeras.measures.language_modeling tlkeras.measures.retrieval
tlkeras.texts.sampling
tlkeras.explaining.chosen tlkeras.explaining.maps tlkeras.explaining.pieces
tlkeras.explaining.explanation
tlkeras.losses.detection tlkeras.losses.language_modeling tlkeras.losses.regression
tlkeras.losses.retrieval tlkeras.losses.segmentation tlkeras.losses.tagging
tlkeras.training.adapters tlkeras.training.worst_cell tlkeras.training.balance
tlkeras.training.replicated tlkeras.training.trainable tlkeras.training.feature_store
tlkeras.training.engine tlkeras.training.frozen tlkeras.training.features
tlkeras.training.summaries
tlkeras.training.loop
tlkeras.training.rate_finder
tlkeras.training.layer_decay tlkeras.training.fused tlkeras.training.planned tlkeras.training.phase
tlkeras.training.linear
tlkeras.training.head_alone tlkeras.training.entropy tlkeras.training.privacy
tlkeras.training.noisy_descent tlkeras.training.descriptions tlkeras.training.solve
tlkeras.training.shadows
tlkeras.training.norms tlkeras.training.temperature
tlkeras.training.alignment tlkeras.training.discrepancy tlkeras.training.adversary
tlkeras.training.adapted tlkeras.training.schedule
tlkeras.formats.signature tlkeras.formats.usage tlkeras.formats.bert_inputs
tlkeras.formats.litert
tlkeras.formats.joined tlkeras.formats.bias_correction tlkeras.formats.flatbuffers
tlkeras.formats.litert_metadata tlkeras.formats.npm tlkeras.formats.page_inputs
tlkeras.formats.torch_file
tlkeras.*.*
tlkeras.doctor.examined tlkeras.doctor.folds tlkeras.doctor.copies tlkeras.doctor.classes
tlkeras.doctor.gaussians tlkeras.doctor.suspects tlkeras.doctor.outliers
tlkeras.doctor.shortcuts tlkeras.doctor.vectors tlkeras.doctor.judgement
tlkeras.report.page tlkeras.report.lettering tlkeras.report.charts tlkeras.report.views
tlkeras.report.figures
tlkeras.report.limits tlkeras.report.evidence tlkeras.report.summary
tlkeras.report.libraries tlkeras.report.facts tlkeras.report.duties
tlkeras.report.report tlkeras.report.statistics tlkeras.report.thumbnails
tlkeras.report.findings tlkeras.report.novelty
tlkeras.report.validation
tlkeras.report.card tlkeras.report.datasheet
tlkeras.report.bom tlkeras.report.croissant
tlkeras
pipeline.code pipeline.log pipeline.product pipeline.step pipeline.version
pipeline.signing
pipeline.libraries pipeline.fresh pipeline.baselines
pipeline.option
pipeline.steps.example_gen pipeline.steps.statistics_gen pipeline.steps.schema_gen
pipeline.steps.trainer pipeline.steps.example_validator pipeline.steps.pusher
pipeline.steps.resolver pipeline.steps.evaluator pipeline.steps.exporter
pipeline.steps.infra_validator pipeline.steps.model_card
pipeline.config pipeline.order
pipeline.store pipeline.flags
pipeline.trace pipeline.lineage pipeline.certificate pipeline.forget pipeline.audit
pipeline.verify
pipeline.batch pipeline.bulk_inferrer pipeline.explain pipeline.validate
pipeline.attack pipeline.few_shot pipeline.gain pipeline.kubeflow pipeline.lr_find
pipeline.ranges pipeline.trial pipeline.search pipeline.__main__
pipeline
"""
LAYERS = ORDER.split()
"""From below to above. Members of families are on one layer, kinds below: none imports another."""

FAMILIES = ["sources", "backbones", "tasks", "recipes", "augments", "exporters"]
MEMBERS = {
    "tlkeras.kinds": "tlkeras.kinds.*",
    **{f"tlkeras.{family}": "tlkeras.*.*" for family in FAMILIES},
}
"""The layer of the members of a family, which never import each other."""

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("tlkeras", "pipeline")
    for path in sorted((ROOT / package).rglob("*.py"))
}


PACKAGES = [name for name, path in FILES.items() if path.name == "__init__.py"]
"""Folders of mechanisms hold a docstring; nothing is imported from the folder itself."""


def place(module: str) -> int:
    family = module.rpartition(".")[0]
    known = MEMBERS.get(family, module) if family else module
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
            case ast.Call(args=[ast.Constant(value=str(name)), *_]) if _imports_by_name(node.func):
                yield name
                waiting += node.args
            case _:
                waiting += ast.iter_child_nodes(node)


def _imports_by_name(function: ast.expr) -> bool:
    return ast.unparse(function).rpartition(".")[2] in ("import_module", "__import__")


@pytest.mark.parametrize("package", [name for name in PACKAGES if name.count(".")])
def test_a_package_within_holds_nothing_but_a_docstring(package):
    (only,) = ast.parse(FILES[package].read_bytes()).body
    assert isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant)


@pytest.mark.parametrize("module", [name for name in FILES if name not in PACKAGES[1:]])
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

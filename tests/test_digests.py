"""Which modules are in the digest of every step: its product is made again when one changes.

The members of families that are chosen, and the kinds that the examples hold, come to these.
"""

from __future__ import annotations

import pytest

from pipeline import code
from pipeline.order import STEPS

KINDS = """
tlkeras.spec tlkeras.frameworks tlkeras.files tlkeras.kind tlkeras.data.records
tlkeras.wire
tlkeras.doctor.defects
"""
PARTS = f"{KINDS} tlkeras.data.parts tlkeras.data.workers"
MODEL = f"""
{KINDS} tlkeras.hardware tlkeras.backbone tlkeras.task tlkeras.augment tlkeras.data.reading
tlkeras.data.batches tlkeras.model.graph tlkeras.model.folding tlkeras.model.lengths
tlkeras.model.block_flags tlkeras.model.network_file tlkeras.model.transfer_model
tlkeras.texts.hub_layers
"""
PAGE = """
tlkeras.report.page tlkeras.report.lettering tlkeras.report.charts tlkeras.report.views
tlkeras.report.figures tlkeras/report/page.css tlkeras/report/charts.css
"""
SUMMARIES = "tlkeras.doctor.statistics tlkeras.doctor.samples tlkeras.doctor.traits"
SCHEMAS = "tlkeras.doctor.statistics tlkeras.doctor.drift tlkeras.doctor.schemas"
VERSIONS = "tlkeras.files pipeline.product pipeline.version"
JUDGED = f"""
{MODEL} {VERSIONS} tlkeras.measures.measures
tlkeras.explaining.explanation tlkeras.explaining.chosen tlkeras.explaining.maps
tlkeras.explaining.pieces tlkeras.texts.sampling tlkeras.model.pyramid tlkeras.images.heat
tlkeras.measures.domains tlkeras.measures.estimates tlkeras.measures.parity
tlkeras.measures.groups tlkeras.data.groups tlkeras.kinds.group
tlkeras.measures.calibration tlkeras.measures.conformal
tlkeras.measures.confusions tlkeras.measures.checks
tlkeras.training.temperature
tlkeras.training.feature_store tlkeras.exporter
tlkeras.exporters.saved_model tlkeras.formats.signature tlkeras.formats.usage
tlkeras.images.pixels tlkeras.model.constants
pipeline.steps.resolver pipeline.baselines
tlkeras.model.vector tlkeras.doctor.answers tlkeras.doctor.samples tlkeras.doctor.traits
tlkeras.doctor.reference tlkeras.doctor.copies tlkeras.doctor.duplicates tlkeras.doctor.sets
tlkeras.data.splits
"""

MODULES = {
    "example_gen": f"""
        {PARTS} tlkeras.images.decoding tlkeras.images.metadata tlkeras.images.signatures
        tlkeras.images.png tlkeras.images.opening tlkeras.source tlkeras.folders
        tlkeras.data.splits tlkeras.data.id_list tlkeras.data.planning tlkeras.data.findings
        tlkeras.data.ingest
        tlkeras.doctor.sets tlkeras.doctor.traits tlkeras.doctor.samples tlkeras.doctor.duplicates
    """,
    "statistics_gen": f"{KINDS} {SUMMARIES}",
    "schema_gen": f"tlkeras.files {SCHEMAS}",
    "example_validator": f"""
        {MODEL} {PAGE} {SUMMARIES} {SCHEMAS}
        pipeline.steps.statistics_gen pipeline.steps.schema_gen
        pipeline.steps.trainer pipeline.code tlkeras.recipe
        tlkeras.training.feature_store tlkeras.training.engine tlkeras.training.frozen
        tlkeras.training.features
        tlkeras.training.loop tlkeras.training.replicated tlkeras.training.trainable
        tlkeras.training.adapters tlkeras.training.layer_decay tlkeras.training.fused
        tlkeras.training.planned tlkeras.training.rate_finder
        tlkeras.training.balance tlkeras.training.worst_cell tlkeras.data.groups
        tlkeras.kinds.group tlkeras.kinds.label
        tlkeras.training.phase tlkeras.training.linear tlkeras.training.head_alone
        tlkeras.training.schedule tlkeras.training.temperature tlkeras.data.splits
        tlkeras.measures.measures
        tlkeras.doctor.traits tlkeras.doctor.sets tlkeras.doctor.duplicates tlkeras.doctor.examined
        tlkeras.doctor.folds tlkeras.doctor.copies tlkeras.doctor.classes tlkeras.doctor.gaussians
        tlkeras.doctor.suspects tlkeras.doctor.outliers tlkeras.doctor.shortcuts
        tlkeras.doctor.vectors tlkeras.doctor.judgement tlkeras.report.statistics
        tlkeras.report.thumbnails tlkeras.report.findings
    """,
    "trainer": f"""
        {MODEL} tlkeras.recipe
        tlkeras.training.feature_store tlkeras.training.engine tlkeras.training.frozen
        tlkeras.training.features
        tlkeras.training.temperature pipeline.code
    """,
    "resolver": VERSIONS,
    "evaluator": JUDGED,
    "exporter": f"{JUDGED} pipeline.steps.evaluator pipeline.fresh",
    "infra_validator": f"{JUDGED} pipeline.steps.evaluator pipeline.fresh",
    "model_card": f"""
        {KINDS} tlkeras.backbone tlkeras.task tlkeras.exporter tlkeras.measures.measures
        pipeline.product {PAGE} tlkeras.doctor.statistics tlkeras.doctor.samples
        tlkeras.data.splits tlkeras.doctor.sets
        tlkeras.report.report tlkeras.report.limits tlkeras.report.card
        tlkeras.report.evidence tlkeras.report.summary tlkeras.report.facts tlkeras.report.duties
        tlkeras/report/duties.json
        tlkeras.report.libraries tlkeras.report.datasheet tlkeras.report.bom
        tlkeras.report.croissant tlkeras.report.novelty tlkeras.doctor.novelty
    """,
    "pusher": f"""
        {VERSIONS} pipeline.log pipeline.signing tlkeras.frameworks tlkeras.folders tlkeras.spec
    """,
}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.component)
def test_the_digest_of_a_step_is_of_these_modules(step):
    expected = {step.module, "pipeline.step", *MODULES[step.component].split()}
    assert {*code.reached([step.module])} == expected


def test_words_in_help_and_warnings_and_the_page_change_no_model():
    (trainer,) = (step for step in STEPS if step.component == "trainer")
    told = ("flags", "option", "store", "ingest", "splits", "report", "page", "card", "terminal")
    found = {module.rpartition(".")[2] for module in code.reached([trainer.module])}
    assert not found & {*told}

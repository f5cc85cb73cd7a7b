"""Which modules are in the digest of every step: its product is made again when one changes.

The members of families that are chosen, and the kinds that the examples hold, come to these.
"""

from __future__ import annotations

import pytest

from pipeline import code
from pipeline.order import STEPS

SPECS = "tlkeras.spec tlkeras.frameworks"
KINDS = f"{SPECS} tlkeras.kind tlkeras.data.records"
BATCHES = f"""
{KINDS} tlkeras.hardware tlkeras.backbone tlkeras.task tlkeras.augment tlkeras.data.reading
tlkeras.data.batches
"""
MODEL = f"{BATCHES} tlkeras.model.graph tlkeras.model.transfer_model"

MODULES = {
    "example_gen": f"""
        {KINDS} tlkeras.source tlkeras.data.splits tlkeras.data.parts tlkeras.data.ingest
        tlkeras.images.decoding
    """,
    "statistics_gen": f"{KINDS} tlkeras.data.parts",
    "schema_gen": f"{KINDS} tlkeras.data.parts pipeline.steps.statistics_gen",
    "example_validator": f"""
        {KINDS} tlkeras.data.parts pipeline.steps.statistics_gen pipeline.steps.schema_gen
    """,
    "trainer": f"""
        {MODEL} tlkeras.model.folding tlkeras.recipe tlkeras.training.feature_store
        tlkeras.training.features pipeline.code
    """,
    "resolver": "pipeline.product pipeline.version",
    "pusher": "pipeline.product pipeline.version",
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

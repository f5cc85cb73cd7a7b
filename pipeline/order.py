"""The steps of the pipeline, in order."""

from __future__ import annotations

from pipeline.steps import (
    evaluator,
    example_gen,
    example_validator,
    exporter,
    infra_validator,
    model_card,
    pusher,
    resolver,
    schema_gen,
    statistics_gen,
    trainer,
)

STEPS = (
    example_gen.examples,
    statistics_gen.statistics,
    schema_gen.schema,
    example_validator.anomalies,
    trainer.model,
    resolver.resolved,
    evaluator.evaluation,
    exporter.exports,
    infra_validator.infra_blessing,
    model_card.card,
    pusher.pushed,
)

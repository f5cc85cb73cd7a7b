"""SchemaGen: the schema of the training examples, as a TFMD schema proto in text form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.step import Step
from pipeline.steps import statistics_gen

FILE = "schema.pbtxt"


@Step
def schema(out: Path, *, statistics: Path) -> None:
    """Writes the range of every number and the domain of every text column of ``train``."""
    from google.protobuf import text_format

    schema_pb2 = statistics_gen.protos("schema")
    kinds = statistics_gen.protos("statistics").FeatureNameStatistics
    proto = schema_pb2.Schema()
    train = next(d for d in statistics_gen.read(statistics).datasets if d.name == "train")
    for summary in train.features:
        feature = proto.feature.add(name=summary.name)
        feature.presence.min_fraction, feature.presence.min_count = 1.0, 1
        feature.value_count.min = feature.value_count.max = 1
        if summary.type == kinds.STRING:
            feature.type = schema_pb2.BYTES
            feature.string_domain.value.extend(
                sorted(top.value for top in summary.string_stats.top_values)
            )
        else:
            feature.type = schema_pb2.FLOAT
            feature.float_domain.min = summary.num_stats.min
            feature.float_domain.max = summary.num_stats.max
    (out / FILE).write_text(text_format.MessageToString(proto), encoding="utf-8")


def read(schema: Path) -> Any:
    """Returns the proto that the step wrote."""
    from google.protobuf import text_format

    text = (schema / FILE).read_text(encoding="utf-8")
    return text_format.Parse(text, statistics_gen.protos("schema").Schema())

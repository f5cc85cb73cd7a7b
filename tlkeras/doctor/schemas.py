"""Schemas: what examples are expected to be like, as TFMD protos in text form.

A `Feature` has ``type``, ``presence`` and ``value_count``. Of a column of numbers ``float_domain``
is the range. Of a column of words ``string_domain`` lists the words, and ``annotation.comment`` the
share of each. The thresholds of ``skew_comparator`` and ``drift_comparator`` (``infinity_norm``)
are the difference of a word's share from which on a later batch is an anomaly, if it is significant
as well; TensorFlow Data Validation reads both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tlkeras.doctor.drift import LEAST_SIZE
from tlkeras.doctor.statistics import protos

FILE = "schema.pbtxt"

# Of so many words, a person reads the shares.
_SHARES = 1000


def of(summaries: Any) -> Any:
    """Returns the schema of the examples that a `DatasetFeatureStatistics` describes."""
    schema_pb2 = protos("schema")
    kinds = protos("statistics").FeatureNameStatistics
    proto = schema_pb2.Schema()
    for summary in summaries.features:
        feature = proto.feature.add(name=summary.name)
        feature.presence.min_fraction, feature.presence.min_count = 1.0, 1
        feature.value_count.min = feature.value_count.max = 1
        if summary.type == kinds.STRING:
            feature.type = schema_pb2.BYTES
            _add_domain(feature, summary.string_stats, summaries.num_examples)
        else:
            feature.type = schema_pb2.FLOAT
            feature.float_domain.min = summary.num_stats.min
            feature.float_domain.max = summary.num_stats.max
    return proto


def write(schema: Any, folder: Path) -> None:
    """Writes a schema into a folder."""
    from google.protobuf import text_format

    (folder / FILE).write_text(text_format.MessageToString(schema), encoding="utf-8")


def read(folder: Path) -> Any:
    """Returns the schema that a folder holds.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    from google.protobuf import text_format

    path = folder / FILE
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), protos("schema").Schema())
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {FILE}; push the model again.") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}. Push the model again.") from None


def _add_domain(feature: Any, summary: Any, examples: int) -> None:
    """Adds the words of a column, in order of their names, and the share of each.

    An example may have several words, or none; then the shares are those of the words.
    """
    counts = {top.value: top.frequency for top in summary.top_values}
    total = sum(counts.values())
    what = "examples" if total == examples else "values"
    feature.string_domain.value.extend(sorted(counts))
    feature.annotation.comment.extend(
        f"{counts[word] / total:.4f} of the {what}: {word}" for word in sorted(counts)[:_SHARES]
    )
    for comparator in (feature.skew_comparator, feature.drift_comparator):
        comparator.infinity_norm.threshold = LEAST_SIZE

"""BERT inputs: the three that MediaPipe's `TextClassifier` gives a file, and who can take them.

It cuts a text into pieces by the vocabulary in the file, as ``BertTokenizer`` does, and fills up
with 0. Capital letters become small where they are ASCII, and accents stay on their letters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from tlkeras.backbone import Backbone
from tlkeras.task import Task
from tlkeras.texts.wordpiece import WordPiece

IDS, MASK, SEGMENTS = NAMES = ("ids", "mask", "segment_ids")
"""The pieces, which of them are no padding, and in which text they are; int32 [1, length]."""

_SPECIAL = {"unknown": "[UNK]", "start": "[CLS]", "end": "[SEP]"}


def vocabulary(backbone: Backbone, task: Task) -> tuple[str, ...]:
    """Returns the pieces of a network that MediaPipe can run, in order; none if it cannot.

    It runs classes of one text, in pieces of small letters that are framed as BERT's.
    """
    tokenizer = backbone.tokenizer
    kinds = [kind.meaning for kind in backbone.raw().values()]
    meanings = [(output.meaning, output.labelled) for output in task.outputs()]
    if kinds != ["text"] or meanings != [("scores", True)] or not isinstance(tokenizer, WordPiece):
        return ()
    is_framed = all(getattr(tokenizer, field) == piece for field, piece in _SPECIAL.items())
    is_filled = tokenizer.vocabulary[0] == tokenizer.padding
    return tokenizer.vocabulary if is_framed and is_filled and tokenizer.lowercase else ()


def completed(batch: Any, names: Collection[str]) -> Any:
    """Returns a batch of pieces with all three inputs, if these are the names of a file's."""
    if {*names} != {*NAMES} or (isinstance(batch, Mapping) and {*batch} == {*NAMES}):
        return batch
    (ids,) = batch.values() if isinstance(batch, Mapping) else (batch,)
    ids = np.asarray(ids, np.int32)
    return {IDS: ids, MASK: (ids != 0).astype(np.int32), SEGMENTS: np.zeros_like(ids)}

"""Text networks of KerasHub: equal to NumPy's, whole through files, and strict about folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from checkpoints import FAMILIES, TEXTS, WIDTH

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.frameworks import tf

LENGTH = 16


def made(name: str, folder: Path, **fields: Any) -> Any:
    member: Any = spec.names(Backbone)[name]
    return member(weights=str(folder), length=LENGTH, **fields)


def states(name: str, folder: Path, tensors: Any, ids: Any, segments: Any = None) -> Any:
    """Returns NumPy's hidden states of ids, and which of them are no padding."""
    config = json.loads((folder / "config.json").read_text())
    padding = config.get("pad_token_id", -1)
    ids = np.asarray(ids)
    segments = np.zeros_like(ids) if segments is None else segments
    mask = ids != padding
    exact = {key: value.astype(np.float64) for key, value in tensors.items()}
    return FAMILIES[name].states(exact, config, ids, mask, segments), mask


def assert_equal(found: Any, expected: Any, mask: Any) -> None:
    """Compares the tokens that are no padding."""
    largest = np.abs(expected).max()
    np.testing.assert_allclose(np.array(found)[mask], expected[mask], atol=1e-5 * max(1, largest))


@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_and_their_summary_are_those_of_a_forward_pass_in_numpy(name, tmp_path):
    tensors = checkpoints.write(name, tmp_path)
    backbone = made(name, tmp_path)
    ids = backbone.preprocess({"text": tf.constant(TEXTS)})
    found = backbone.build()(ids)
    expected, mask = states(name, tmp_path, tensors, ids)
    assert mask.any(axis=1).sum() >= 3 and not mask.all()
    assert_equal(found["tokens"], expected[-1], mask)
    for row, (tokens, kept) in enumerate(zip(expected[-1], mask, strict=True)):
        summary = tokens[kept] if kept.any() else np.zeros((1, WIDTH))
        pooled = summary[-1] if backbone.pooling == "last" else summary.mean(axis=0)
        if kept.any():
            np.testing.assert_allclose(found["pooled"][row], pooled, atol=2e-5)

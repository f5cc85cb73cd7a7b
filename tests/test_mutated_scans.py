"""Damaged DICOM files are told and never end a run; the benchmark reads 2,000 of them."""

from __future__ import annotations

import importlib.util
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def mutated() -> Any:
    """The benchmark, which is no module of a package."""
    path = Path(__file__).parents[1] / "benchmarks/mutated_scans.py"
    made = importlib.util.spec_from_file_location("mutated_scans", path)
    assert made and made.loader
    module = sys.modules["mutated_scans"] = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    return module


def test_mutated_files_are_read_or_told_in_little_time_and_memory(mutated, tmp_path):
    file, outcomes = tmp_path / "mutated.dcm", []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(100):
        file.write_bytes(mutated.mutated(number))
        began = time.process_time()
        outcomes.append(mutated.outcome(file))
        assert time.process_time() - began < 5, f"number {number}"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown / 1024 < 300  # MB.
    assert "read" in outcomes and len({*outcomes}) > 5


def test_a_number_is_the_same_file_everywhere(mutated):
    first = mutated.mutated(7)
    assert first == mutated.mutated(7) != mutated.mutated(8)

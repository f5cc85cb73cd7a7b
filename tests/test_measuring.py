"""The programs that measure groups, privacy, heat, doubt and cards run on few pictures.

On so little data what they print means nothing.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import draw

from tlkeras.frameworks import keras, tf
from tlkeras.measures import membership
from tlkeras.training import shadows
from tlkeras.training.phase import Phase
from tlkeras.training.solve import Solve

FOLDER = Path(__file__).parents[1] / "benchmarks"
CASES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "groups": ("--ways probe", {"COUNTS": {"train": 20, "val": 8, "test": 20}}, ["worst"]),
    "explain": (
        "--cases shapes --count=40 --shown=1",
        {},
        ["pointing", "deletion", "insertion by chance", "correlation, head shuffled"],
    ),
    "doubt": (
        "--sets flower_photos --recipes probe --data={0}",
        {"OTHERS": ("flower_photos", "dogcat"), "SIZE": 32},
        ["accuracy", "temperature", "novelty dogcat"],
    ),
    "private": (
        "--epsilons 8 --data={0} --weights={0}",
        {"NETWORK": "starter(size=32)"},
        ["train", "test", "attacks"],
    ),
    "gpu": (
        "--device=cpu --networks mobilenet_v2 --precisions float32 --pictures=64 --size=32"
        " --seconds=0",
        {},
        ["card", "frozen", "half", "full"],
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn pictures where photos are wanted."""
    place = tmp_path_factory.mktemp("measuring")
    for name in ("flower_photos", "dogcat"):
        draw(place / name, 40)
    return place


@pytest.mark.parametrize("options", [{}, {"schedule": "cosine", "warmup": 0.25}])
def test_the_plain_loop_has_the_optimizer_of_keras_with_the_rates_of_ours(options, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    places = importlib.import_module("places")
    ours = Phase(optimizer="adamw", learning_rate=0.1, **options).compiled_optimizer(8)
    plain = places.unfused(ours)
    assert type(plain) is keras.optimizers.AdamW
    rates = []
    for optimizer in (ours, plain):
        variable = keras.Variable([1.0])
        for _ in range(4):
            optimizer.apply([tf.ones([1])], [variable])
            rates.append(float(optimizer.learning_rate))
    assert rates[:4] == rates[4:]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_measuring_program_appends_its_results_and_finds_them_again(
    name, place, tmp_path, monkeypatch, capsys
):
    told, constants, figures = CASES[name]
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(shadows, "HEADS", 2)
    monkeypatch.setattr(membership, "_DRAWS", 20)
    monkeypatch.setattr(Solve, "strengths", (0.3, 0.01))
    module = importlib.import_module(name)
    for constant, value in constants.items():
        monkeypatch.setattr(module, constant, value)
    results = tmp_path / "results.jsonl"
    command = f"{name}.py --results={results} --runs=1 {told.format(place)}"
    monkeypatch.setattr(sys, "argv", command.split())
    module.main()
    written = results.read_text()
    rows = [json.loads(line) for line in written.splitlines()]
    assert {*figures} <= {*rows[-1]}
    capsys.readouterr()
    module.main()
    assert results.read_text() == written
    assert capsys.readouterr().out.count("|") > 10


@pytest.mark.slow
def test_the_memory_of_large_networks_is_told_by_network_and_way(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    module = importlib.import_module("large")
    monkeypatch.setattr(module, "NETWORKS", {"small": "mobilenet_v2(weights=None, size=32)"})
    results = tmp_path / "results.jsonl"
    monkeypatch.setattr(sys, "argv", ["large.py", f"--results={results}", "--runs=1"])
    module.main()
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [row["way"] for row in rows] == ["import", "forward", "fit"]
    assert rows[0]["mb"] < rows[1]["mb"]
    module.main()
    assert results.read_text().count("\n") == 3
    assert "| small |" in capsys.readouterr().out

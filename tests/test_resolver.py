"""Which pushed version a new model has to be as good as."""

import json
from pathlib import Path
from typing import Any

import pytest
import withdrawal
from conftest import draw

from pipeline.steps import resolver
from pipeline.version import WITHDRAWN


def test_the_baseline_is_the_newest_version_of_another_model_that_was_not_withdrawn(tmp_path: Path):
    model, models, out = (tmp_path / name for name in ("model", "models", "out"))
    model.mkdir()
    out.mkdir()
    (model / "_manifest.json").write_text('{"digest": "mine"}')
    for number, digest in ((9, "old"), (10, "other"), (11, "mine")):
        version = models / "colours" / str(number)
        (version / "saved_model").mkdir(parents=True)
        told = {"lineage": [{"step": "model", "digest": digest}], "products": {}}
        (version / "manifest.json").write_text(json.dumps(told))

    def found(baseline: str) -> Path | None:
        options: dict[str, Any] = {"name": "colours", "saved_models": models}
        resolver.resolved.run(out, model=model, baseline=baseline, **options)
        return resolver.read(out)

    assert found("last") == models / "colours" / "10"
    # What has to be replaced sets no measure, so its certificate's command goes through.
    mark = {"time": "2024-01-01", "examples": [{"identity": "", "split": "test"}]}
    (models / "colours" / "10" / WITHDRAWN).write_text(json.dumps([mark]))
    assert found("last") == models / "colours" / "9"
    assert found("none") is None
    assert found(str(models / "colours" / "9")) == models / "colours" / "9"
    with pytest.raises(ValueError, match=r"--baseline=.*gone: there is no saved_model in"):
        found(str(tmp_path / "gone"))


def test_a_model_compared_with_the_last_version_is_not_pushed_after_another_one(tmp_path: Path):
    first, second = (draw(tmp_path / name, 8, seed) for seed, name in enumerate("ab"))
    options = withdrawal.config(first, tmp_path, baseline="last")
    withdrawal.run(options)
    withdrawal.run(options)  # Of the same model there is one.
    # As a run at the same time, this one has seen no version.
    other = withdrawal.config(second, tmp_path, baseline="last")
    with pytest.raises(ValueError, match=r"^colours/1 was pushed meanwhile; run again: nothing"):
        withdrawal.run(other)
    versions = tmp_path / "saved_models" / "colours"
    assert [path.name for path in versions.glob("[0-9]*")] == ["1"]
    withdrawal.run(other.replace(baseline="none"))
    assert (versions / "2").exists()

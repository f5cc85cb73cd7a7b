"""Which pushed version a new model has to be as good as."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.steps import resolver


def test_the_baseline_is_the_newest_version_of_another_model(tmp_path: Path):
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
    assert found("none") is None
    assert found(str(models / "colours" / "9")) == models / "colours" / "9"
    with pytest.raises(ValueError, match=r"--baseline=.*gone: there is no saved_model in"):
        found(str(tmp_path / "gone"))

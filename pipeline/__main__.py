"""``python -m pipeline``: from a source to a pushed model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline import core, evaluator, flags, pusher, resolver
from pipeline.config import STEPS, Config
from tlkeras import report


def main(config: Config) -> int:
    """Makes every product up to ``--to``, then shows what came out.

    Raises:
        NotBlessed: The model, or an export of it, is worse than it has to be.
    """
    resolver.named(config.baseline)  # A wrong one is told before the training.
    try:
        products = core.run(STEPS, config, core.Store(config.root), config.to)
    except core.NotBlessed as refusal:
        _show(refusal.products)
        raise
    _show(products)
    if "evaluation" in products:
        evaluator.require_blessed(products["evaluation"])
    if "infra_blessing" in products:
        pusher.require_fit(products["infra_blessing"])
    return 0


def _show(products: Mapping[str, Path]) -> None:
    if "evaluation" in products:
        _show_measures(products["evaluation"])
    if "infra_blessing" in products:
        _show_exports(products["infra_blessing"])
    if "pushed" in products:
        told = json.loads((products["pushed"] / "pushed.json").read_text(encoding="utf-8"))
        print(f"\nPushed: {told['folder']}")


def _show_measures(evaluation: Path) -> None:
    measures = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
    split = measures.pop("split")
    rows = [
        (name.replace("_", " "), f"{value:.4f}")
        for name, value in measures.items()
        if isinstance(value, float)
    ]
    print("\n" + report.table(rows, ("measure", split)))


def _show_exports(infra_blessing: Path) -> None:
    exports = json.loads((infra_blessing / "infra.json").read_text(encoding="utf-8"))
    rows = [
        (
            " ".join(row["files"]),
            f"{row['bytes']:,}",
            f"{row['value']:.4f}",
            f"{row['agreement']:.4f}",
            f"{row['p50_ms']:.1f}",
            f"{row['p95_ms']:.1f}",
            f"{row['p50_ms_2_threads']:.1f}",
            f"{row['p95_ms_2_threads']:.1f}",
            "no" if row["reasons"] else "yes",
        )
        for row in exports
    ]
    times = ("ms, 1 thread", "95 % in", "ms, 2 threads", "95 % in")
    columns = ("file", "bytes", exports[0]["primary"], "same as Keras", *times, "fit to push")
    print("\n" + report.table(rows, columns))


if __name__ == "__main__":
    flags.run(main, Config)

"""The one door: ``tlkeras`` or ``python -m pipeline`` runs everything, or what its word names."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipeline import (
    attack,
    audit,
    baselines,
    bulk_inferrer,
    explain,
    few_shot,
    flags,
    forget,
    gain,
    kubeflow,
    lineage,
    lr_find,
    search,
    signing,
    store,
    validate,
    verify,
)
from pipeline.config import Config
from pipeline.order import STEPS
from pipeline.step import NotBlessed
from pipeline.steps import evaluator, pusher, resolver
from tlkeras import files, spec, terminal
from tlkeras.backbone import require_read
from tlkeras.measures import measures
from tlkeras.report.page import number

PROGRAMS = {
    "attack": attack.command,
    "audit": audit.command,
    "bulk_inferrer": bulk_inferrer.command,
    "explain": explain.command,
    "few_shot": few_shot.command,
    "forget": forget.command,
    "gain": gain.command,
    "kubeflow": kubeflow.command,
    "lineage": lineage.command,
    "lr_find": lr_find.command,
    "search": search.command,
    "validate": validate.command,
    "verify": verify.command,
}
"""The programs that are not steps of the pipeline."""


def main() -> NoReturn:
    """Runs the pipeline, or the step or the program that the first word names, and exits."""
    program = "tlkeras" if Path(sys.argv[0]).name == "tlkeras" else "python -m pipeline"
    word, *rest = sys.argv[1:] or [""]
    if not word or word.startswith("-"):
        flags.run([program, *sys.argv[1:]], everything, Config, more=_commands(program))
    flags.plainly(_one)(word, [f"{program} {word}", *rest])


def _one(word: str, argv: Sequence[str]) -> NoReturn:
    """Runs one step or program."""
    components = {step.component: step for step in STEPS}
    if word in components:
        flags.run_alone(argv, components[word], Config)
    if word in PROGRAMS:
        PROGRAMS[word](argv)
    known = [*components, *PROGRAMS]
    raise ValueError(f"{word!r} is no step or program; {spec.nearest(word, known)}")


def _commands(program: str) -> str:
    steps = ", ".join(step.component for step in STEPS)
    return (
        f"One step alone, flags of its own: {program} STEP --help\n  {steps}\n"
        f"Other programs: {program} PROGRAM --help\n  {', '.join(PROGRAMS)}"
    )


def everything(config: Config) -> int:
    """Makes every product up to ``--to``, then prints measures, exports and the pushed folder.

    Raises:
        NotBlessed: The model, or an export of it, is worse than it has to be.
        ValueError: The backbone does not read such data, or the baseline is of another task.
    """
    backbone: Any = config.backbone
    require_read(backbone, config.source.features())  # Before the data are read.
    _require_baseline(config)
    if config.sign_key:
        signing.private_key(config.sign_key)
    try:
        products = store.run(STEPS, config, store.Store(config.root), config.to)
    except NotBlessed as refusal:
        _show(refusal.products)
        raise
    _show(products)
    if "evaluation" in products:
        evaluator.require_blessed(products["evaluation"])
    if "infra_blessing" in products:
        pusher.require_fit(products["infra_blessing"])
    return 0


def _require_baseline(config: Config) -> None:
    """Raises ValueError, before the training, for a baseline that cannot be."""
    task: Any = config.task
    found = resolver.foreseen(config.baseline, config.name, config.saved_models)
    steps = [step.name for step in store.chosen(STEPS, Config, config.to)]
    if found and "evaluation" in steps:
        baselines.require_task(found, task)


def _show(products: Mapping[str, Path]) -> None:
    if "evaluation" in products:
        _show_measures(products["evaluation"])
    if "infra_blessing" in products:
        _show_exports(products["infra_blessing"])
    if "pushed" in products:
        pushed = files.read_json(products["pushed"] / "pushed.json")
        print(f"\nPushed: {pushed['folder']}")


def _show_measures(evaluation: Path) -> None:
    found = measures.read(evaluation)
    rows = [(name.replace("_", " "), number(each.value)) for name, each in found.scalars.items()]
    print("\n" + terminal.table(rows, ("measure", found.split)))


def _show_exports(infra_blessing: Path) -> None:
    exports = files.read_json(infra_blessing / "infra.json")
    rows = [
        (
            " ".join(row["files"]),
            f"{row['bytes']:,}",
            number(row["value"]),
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
    primary = exports[0]["primary"].replace("_", " ")
    columns = ("file", "bytes", primary, "same answer as Keras", *times, "fit to push")
    print("\n" + terminal.table(rows, columns))


if __name__ == "__main__":
    main()

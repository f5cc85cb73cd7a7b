"""The README's lines, as they stand there."""

import re
import shlex
from pathlib import Path

import pytest
from absl import flags as absl_flags
from conftest import draw

from pipeline import attack, few_shot, flags, forget, gain, lr_find, search, validate, verify
from pipeline.config import Config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "BUILD.md", "Makefile", "benchmarks/README.md"]

PROGRAMS = {
    "attack": ((Config,), {"steps": attack.PIPELINE}),
    "gain": ((Config, gain.Others), {"steps": gain.PIPELINE}),
    "few_shot": ((Config, few_shot.Episodes), {"steps": few_shot.PIPELINE}),
    "lr_find": ((Config,), {"steps": lr_find.PIPELINE}),
    "search": (
        (Config, search.Settings),
        {"steps": search.PIPELINE, "before": search.before({})},
    ),
    "forget": ((forget.Forget,), {"steps": ()}),
    "validate": ((validate.Validation,), {"steps": ()}),
    "verify": ((verify.Verify,), {"steps": ()}),
}


def commands() -> list[str]:
    """Returns every command line of the pages that runs the pipeline, or one of `PROGRAMS`."""
    texts = [(ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ") for page in PAGES]
    lines = [line for text in texts for line in text.splitlines()]
    found = (re.search(rf"(?<!`)\btlkeras( {'| '.join(PROGRAMS)})?( --.*)?$", x) for x in lines)
    return [match[0] for match in found if match]


@pytest.mark.parametrize("command", commands())
def test_a_command_line_of_the_pages_is_understood(command, tmp_path, monkeypatch):
    for folder in ("photos", "IMAGES/flower_photos", "cells/Annotations", "new", "scans"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "gone.txt").write_text("rose/17.jpg\n", encoding="utf-8")
    for name in ("reviews.csv", "films.csv"):
        (tmp_path / name).write_text("text,label\nfine,yes\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(absl_flags, "FLAGS", absl_flags.FlagValues())
    arguments = shlex.split(command)
    configs, options = PROGRAMS.get(" ".join(arguments[1:2]), ((Config,), {}))
    arguments = arguments[1:] if options else arguments
    values = absl_flags.FlagValues()
    config, *_ = flags.parser(*configs, **options, values=values)(arguments)
    assert isinstance(config, configs[0])


def test_the_pages_have_command_lines():
    assert len(commands()) >= 8


@pytest.mark.slow
def test_the_python_lines_run_one_after_the_other_and_name_a_class(tmp_path, monkeypatch, capsys):
    draw(tmp_path / "photos", 6)
    (tmp_path / "rose.jpg").write_bytes((tmp_path / "photos/red/000.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    known: dict = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(block, "README.md", "exec"), known)
    (last,) = [line for line in capsys.readouterr().out.splitlines() if "'label'" in line]
    assert re.search(r"'label': '(red|green|blue)'", last)
    assert (tmp_path / "work" / "model.tflite").stat().st_size > 100_000


def test_every_member_is_named():
    from tlkeras import spec
    from tlkeras.augment import Augment
    from tlkeras.exporter import Exporter
    from tlkeras.recipe import Recipe
    from tlkeras.source import Source
    from tlkeras.task import Task

    for family in (Source, Task, Recipe, Exporter, Augment):
        members = [name for name, cls in spec.names(family).items() if "tlkeras" in cls.__module__]
        assert [name for name in members if f"`{name}`" not in README] == []

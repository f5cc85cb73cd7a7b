"""The README's lines, as they stand there."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from absl import flags as absl_flags
from conftest import draw

from pipeline import (
    attack,
    bulk_inferrer,
    explain,
    few_shot,
    flags,
    forget,
    gain,
    kubeflow,
    lr_find,
    search,
    validate,
    verify,
)
from pipeline.config import Config
from pipeline.order import STEPS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "BUILD.md", "Makefile", "benchmarks/README.md"]

PROGRAMS = {
    "": ((Config,), {}),
    "attack": ((Config,), {"steps": attack.PIPELINE, "without": attack.UNUSED}),
    "gain": ((Config, gain.Others), {"steps": gain.PIPELINE}),
    "few_shot": ((Config, few_shot.Episodes), {"steps": few_shot.PIPELINE}),
    "lr_find": ((Config,), {"steps": lr_find.PIPELINE}),
    "search": (
        (Config, search.Settings),
        {"steps": search.PIPELINE, "before": search.before({})},
    ),
    "forget": ((forget.Forget,), {}),
    "kubeflow": ((kubeflow.Target, Config), {}),
    "validate": ((validate.Validation,), {}),
    "verify": ((verify.Verify,), {}),
}
"""What a program reads its command line with; the empty word is the whole pipeline."""

ALONE = {
    "bulk_inferrer": (bulk_inferrer.predictions, bulk_inferrer.Inference),
    "explain": (explain.explanations, explain.Explaining),
    **{step.component: (step, Config) for step in STEPS},
}


def commands() -> list[tuple[str, list[str]]]:
    """Returns the word and the flags of every command line of the pages."""
    texts = [(ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ") for page in PAGES]
    lines = [line for text in texts for line in text.splitlines()]
    found = (re.search(r"(?:^|bin/|\(BIN\)/)tlkeras(?: (\w+))?( +--.*)?$", x) for x in lines)
    return [(match[1] or "", shlex.split(match[2] or "")) for match in found if match]


@pytest.mark.parametrize(("word", "arguments"), commands())
def test_a_command_line_of_the_pages_is_understood(word, arguments, tmp_path, monkeypatch):
    for folder in ("photos", "IMAGES/flower_photos", "cells/Annotations", "new", "scans", "sst2"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "sst2/train.csv").write_text("1 fine\n", encoding="utf-8")
    (tmp_path / "gone.txt").write_text("rose/17.jpg\n", encoding="utf-8")
    for name in ("reviews.csv", "films.csv"):
        (tmp_path / name).write_text("text,label\nfine,yes\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(absl_flags, "FLAGS", absl_flags.FlagValues())
    values = absl_flags.FlagValues()
    if word in ALONE:
        step, config = ALONE[word]
        parse = flags.step_parser(step, config, values)
    else:
        configs, options = PROGRAMS[word]
        parse = flags.parser(*configs, **options, values=values)
    if arguments == ["--help"]:
        with pytest.raises(SystemExit) as end:
            parse([word, *arguments])
        assert end.value.code == 0
    else:
        assert parse([word, *arguments])


def test_the_pages_have_command_lines_of_every_program():
    words = [word for word, _ in commands()]
    assert {*words} == {*PROGRAMS, "bulk_inferrer", "explain", "example_gen", "trainer"}
    texts = [(ROOT / page).read_text(encoding="utf-8") for page in PAGES]
    begins = re.compile(r"^tlkeras\b|\bbin\)?/tlkeras\b", re.MULTILINE | re.IGNORECASE)
    assert len(words) == sum(len(begins.findall(text)) for text in texts)


def test_no_command_of_the_readme_is_measured_by_the_model_of_another():
    lines = README.replace("\\\n", " ").splitlines()
    pushed: dict[str, str] = {}
    for line in lines:
        if not (match := re.match(r"\.venv/bin/tlkeras( +--.*)$", line)) or "--to=" in line:
            continue
        given = dict(each[2:].split("=", 1) for each in shlex.split(match[1]))
        name = given.get("name", given["source"])
        assert pushed.setdefault(name, line) == line
    assert len(pushed) > 10


def test_pages_show_the_pictures_that_there_are():
    shown = set()
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        found = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
        shown |= {((ROOT / page).parent / each).relative_to(ROOT).as_posix() for each in found}
    there = (path for path in (ROOT / "benchmarks").iterdir() if path.suffix in (".png", ".svg"))
    assert shown == {path.relative_to(ROOT).as_posix() for path in there}


@pytest.mark.parametrize("page", PAGES)
def test_a_command_of_a_benchmark_has_flags_that_it_knows(page):
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"python3? (benchmarks/\w+\.py|tools/\w+\.py)(.*)", text)
    for program, rest in found:
        known = (ROOT / program).read_text(encoding="utf-8")
        assert [each for each in re.findall(r"--\w+", rest) if f'"{each}"' not in known] == []
    assert found or page in ("README.md", "Makefile")


def test_messages_install_an_extra_in_one_form_that_every_shell_takes():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = {*settings["project"]["optional-dependencies"]} - {"dev"}
    others = {"'tensorflow[and-cuda]'", "{packages}"}  # They are no extras of tlkeras.
    files = [path for name in ("tlkeras", "pipeline") for path in (ROOT / name).rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    told = [x for text in texts for x in re.findall(r"pip install +('[^']*'|[^\s\"]+)", text)]
    assert {*told} - others == {f"'tlkeras[{extra}]'" for extra in extras}
    assert not [text for text in texts if "-m pip " in text]


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

"""The README's lines, as they stand there."""

import re
from pathlib import Path

from conftest import draw

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_lines_run_and_name_a_class(tmp_path, monkeypatch, capsys):
    draw(tmp_path / "photos", 6)
    (tmp_path / "rose.jpg").write_bytes((tmp_path / "photos/red/000.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(block, "README.md", "exec"), {})
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

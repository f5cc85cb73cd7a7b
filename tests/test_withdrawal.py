"""The programs of a withdrawal from their command line."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags as absl_flags

from pipeline import audit, flags, forget, lineage

ROOT = Path(__file__).parents[1]
PROGRAMS = {
    "audit": (audit.command, audit.Audit),
    "forget": (forget.command, forget.Forget),
    "lineage": (lineage.command, lineage.Lineage),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_example_in_the_help_is_understood(name, tmp_path, monkeypatch, capsys):
    command, settings = PROGRAMS[name]
    monkeypatch.setattr(flags, "_start", lambda argv, main, parse: parse(argv))
    with pytest.raises(SystemExit) as ended:
        command([f"tlkeras {name}", "--help"])
    assert ended.value.code == 0
    (line,) = re.findall(rf"^  tlkeras {name} --.*$", capsys.readouterr().out, re.MULTILINE)
    (tmp_path / "withdrawn.txt").write_text("rose/17.jpg")
    monkeypatch.chdir(tmp_path)
    (found,) = flags.parser(settings, values=absl_flags.FlagValues())(shlex.split(line)[1:])
    assert isinstance(found, settings)


def test_what_a_user_writes_wrongly_is_one_line_and_changes_nothing(tmp_path):
    words = ["forget", "--ids=none.txt"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline", *words]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    message = "flag --ids=none.txt: There is no folder or file 'none.txt'; "
    assert message in ended.stderr.splitlines()[-1]
    assert [*tmp_path.iterdir()] == []

"""Flags: one for each field, wrong ones told in a line, and a way back from config to command."""

from __future__ import annotations

import abc
import errno
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from absl import flags as absl_flags

from pipeline import flags, option, product
from pipeline.config import Config as PipelineConfig
from pipeline.step import Place, Step
from tlkeras import spec
from tlkeras.sources.csv import CSV
from tlkeras.spec import Spec

ROOT = Path(__file__).parents[1]


class Pan(Spec):
    """A family."""

    @abc.abstractmethod
    def depth(self) -> int: ...


class Wok(Pan, name="wok"):
    """A member."""

    width: Annotated[int, "In cm."] = 30

    def depth(self):
        return 10


class Grill(Pan, name="grill"):
    """Another."""

    kind: Literal["gas", "coal"] = "gas"

    def depth(self):
        return 0


class Config(Spec, name="config"):
    """Every option of the kitchen, once."""

    pan: Annotated[Pan, "What it is cooked in."] = Wok()
    pans: Annotated[tuple[Pan, ...], "What else, joined by |."] = (Wok(),)
    lid: Annotated[Pan | None, "What it is covered with."] = None
    guests: Annotated[int, "How many come."] = 4
    heat: Annotated[float, "How hot, in [0, 1]."] = 0.5
    dish: Annotated[str, "What there is."] = "rice and peas"
    note: Annotated[str | None, "What to say."] = None
    limit: Annotated[int | None, "At most."] = 3
    hot: Annotated[bool, "Whether it burns."] = True
    course: Annotated[Literal["main", "sweet"], "Which."] = "main"
    kitchen: Annotated[Path, "Where."] = Path("home")

    def validate(self):
        self.require(self.guests >= 1, "guests", "at least 1")


class Needy(Spec, name="needy"):
    """A config with a field that has to be given."""

    pan: Annotated[Pan, "What it is cooked in."]


def parse(*words: str, config: type[Spec] = Config) -> Any:
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_string("flagfile", "", "As absl has it.", values)
    (made,) = flags.parser(config, values=values)(["program", *words])
    return made


def complaint(capsys: pytest.CaptureFixture[str], *words: str, config: type[Spec] = Config) -> str:
    """Returns the one line that a wrong command line is answered with."""
    with pytest.raises(SystemExit) as stopped:
        parse(*words, config=config)
    out, line = capsys.readouterr()
    assert stopped.value.code == 1 and out == "" and line.count("\n") == 1
    return line.strip()


CONFIGS = [
    Config(),
    Config(pan=Grill("coal"), pans=(Grill(), Wok(12)), lid=Wok(1)),
    Config(pans=(), guests=7, heat=1e-7, dish="it's a 'b' | c", hot=False),
    Config(note="two\nlines", limit=None, course="sweet", kitchen=Path("a b/c")),
    Config(dish="", limit=-1),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_the_quoted_command_of_a_config_makes_it_again(config):
    values = {name: getattr(config, name) for name in spec.fields(Config)}
    texts = {name: option.written(value) for name, value in values.items()}
    _, *words = shlex.split(product.command(texts))
    assert parse(*words) == config


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        ("--pan=grill", "pan", Grill()),
        ("--pan=grill(kind=coal)", "pan", Grill("coal")),
        ("--pans=wok|grill|wok(width=2)", "pans", (Wok(), Grill(), Wok(2))),
        ("--pans=[]", "pans", ()),
        ("--lid=None", "lid", None),
        ("--guests=12", "guests", 12),
        ("--heat=1", "heat", 1.0),
        ("--dish=wok", "dish", "wok"),
        ("--dish=a-b(c)", "dish", "a-b(c)"),
        ("--note=x", "note", "x"),
        ("--limit=None", "limit", None),
        ("--limit=5", "limit", 5),
        ("--nohot", "hot", False),
        ("--hot=false", "hot", False),
        ("--hot", "hot", True),
        ("--course=sweet", "course", "sweet"),
        ("--kitchen=/tmp/x", "kitchen", Path("/tmp/x")),
        ("--kitchen=~/x", "kitchen", Path.home() / "x"),
    ],
)
def test_a_flag_gives_its_field_and_no_other(word, field, value):
    assert parse(word) == Config().replace(**{field: value})


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("--pan=wk", "flag --pan=wk: 'wk' is not a Pan; did you mean 'wok'?"),
        ("--pan=help", "flag --pan=help: 'help' is not a Pan; there are grill, wok."),
        ("--pans=wok|gril", "flag --pans=wok|gril: 'gril' is not a Pan; did you mean 'grill'?"),
        (
            "--pan=grill(kind=wood)",
            "flag --pan=grill(kind=wood): grill.kind is 'wood', expected Literal['gas', 'coal'].",
        ),
        ("--guests=x", "flag --guests=x: 'x' is not a whole number."),
        ("--limit=x", "flag --limit=x: 'x' is not a whole number."),
        ("--heat=hot", "flag --heat=hot: 'hot' is not a number."),
        ("--hot=perhaps", "flag --hot=perhaps: 'perhaps' is not true or false."),
        ("--course=man", "flag --course=man: 'man' is not a choice; did you mean 'main'?"),
        ("--guests=0", "--guests is 0, expected at least 1."),
        ("--heat=nan", "--heat is nan, expected a finite float."),
        ("--guest=1", "Unknown command line flag 'guest'. Did you mean: guests ?"),
        ("--guests", "Missing value for flag --guests"),
        ("guests=1", "'guests=1' is not a flag; write --name=value."),
    ],
)
def test_a_wrong_flag_is_told_in_one_line(capsys, word, line):
    assert complaint(capsys, word) == line


def test_a_file_that_may_not_be_read_is_told_in_one_line(capsys):
    def main():
        raise PermissionError(errno.EACCES, "Permission denied", "photos/a.jpg")

    with pytest.raises(SystemExit) as stopped:
        flags.plainly(main)()
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith("photos/a.jpg: permission denied; change its")


def test_a_list_of_faults_is_told_in_one_line_that_parts_them(capsys):
    def main():
        raise ValueError("a.csv:\n  line 2 has 3 cells\n  line 4 has no label")

    with pytest.raises(SystemExit):
        flags.plainly(main)()
    told = "a.csv: line 2 has 3 cells; line 4 has no label\n"
    assert capsys.readouterr().err == told


def test_a_field_without_default_has_to_be_given(capsys):
    line = complaint(capsys, config=Needy)
    assert line == "flag --pan is missing: What it is cooked in."
    assert parse("--pan=wok", config=Needy) == Needy(Wok())


def test_flags_are_read_from_a_file(tmp_path):
    (tmp_path / "kitchen.flags").write_text("# Today.\n--pans=wok|grill(kind='coal')\n--guests=9\n")
    made = parse(f"--flagfile={tmp_path / 'kitchen.flags'}", "--guests=2")
    assert made == Config(pans=(Wok(), Grill("coal")), guests=2)


@pytest.mark.parametrize("annotation", [list[int], tuple[int, ...], dict, tuple[Wok, Wok]])
def test_a_field_that_no_flag_can_give_is_refused_loudly(annotation):
    bad: Any = type("Bad", (Spec,), {"__annotations__": {"x": annotation}}, name="bad")
    with pytest.raises(TypeError, match=r"^x is annotated .*, which flags do not support\.$"):
        parse(config=bad)


@pytest.mark.parametrize("word", ["--help", "-h", "--helpshort"])
def test_help_lists_every_flag_with_its_default_and_ends_well(capsys, word):
    with pytest.raises(SystemExit) as stopped:
        parse("--pan=nonsense", word)
    out = capsys.readouterr().out
    assert stopped.value.code == 0
    assert out.startswith("Every option of the kitchen, once.\n")
    assert "  --pan=PAN\n      What it is cooked in. (default: wok)\n" in out
    assert "  --pans=PAN|…\n      What else, joined by |. (default: wok)\n" in out
    assert "  --limit=INT|None\n      At most. (default: 3)\n" in out
    assert "  --course=main|sweet\n" in out
    assert "  PAN\n      grill(kind='gas')\n      wok(width=30)\n" in out


@Step
def stew(out: Path, *, rice: Path, pan: Pan, guests: int) -> None:
    """Cooks for the guests."""
    (out / "stew").write_text((rice / "rice").read_text() * guests + str(pan))


@Step
def strange(out: Path, *, unknown: int) -> None:
    """Asks for what no config has."""


def parse_step(*words: str, config: type[Spec] = Config) -> dict[str, Any]:
    return flags.step_parser(stew, config, absl_flags.FlagValues())(["program", *words])


def test_a_step_has_a_flag_for_every_product_and_field_and_its_output():
    assert parse_step("--rice=r", "--out=o", "--guests=2") == {
        "rice": Path("r"),
        "pan": Wok(),
        "guests": 2,
        "out": Path("o"),
        "strategy": "auto",
    }


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--out=o"], "flag --rice is missing: The folder of the product rice."),
        (["--rice=r"], "flag --out is missing: The folder of the product, whole or not at"),
        (["--rice=r", "--out=o", "--guests=0"], "--guests is 0, expected at least 1."),
        (["--rice=r", "--out=o", "--heat=1"], "Unknown command line flag 'heat'"),
    ],
)
def test_a_wrong_flag_of_a_step_is_told_in_one_line(capsys, words, line):
    with pytest.raises(SystemExit):
        parse_step(*words)
    assert capsys.readouterr().err.startswith(line)


def test_help_of_a_step_is_its_docstring_an_example_and_its_flags(capsys):
    with pytest.raises(SystemExit):
        parse_step("--help")
    out = capsys.readouterr().out
    assert out.startswith("Cooks for the guests.\n\nExample:\n  program --rice=rice")
    assert " --rice=rice --out=stew\n" in out
    assert "  --guests=INT\n      How many come. (default: 4)\n" in out
    assert "--heat" not in out


def test_the_products_of_a_step_may_be_at_home():
    parsed = parse_step("--rice=~/r", "--out=~/o")
    assert (parsed["rice"], parsed["out"]) == (Path.home() / "r", Path.home() / "o")


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("--seed=-1", "--seed is -1, expected a whole number from 0 to 4294967295."),
        ("--seed=4294967296", "--seed is 4294967296, expected a whole number from 0 to 429"),
        ("--split=split(test=0.2)", "flag --split=split(test=0.2): split.test is 0.2, expected"),
        ("--source=foldr(path='x')", "flag --source=foldr(path='x'): 'foldr' is not a Source; di"),
    ],
)
def test_a_wrong_option_of_the_pipeline_is_told_in_one_line(capsys, word, line):
    assert complaint(capsys, word, config=PipelineConfig).startswith(line)


def test_every_path_of_the_pipeline_may_be_at_home():
    words = (
        "--root=~/r",
        "--saved_models=~/s",
        "--baseline=~/s/x/1",
        "--source=csv(path='~/t.csv')",
        "--backbone=starter",  # No such table is read for the defaults of these two.
        "--task=classification",
    )
    made, home = parse(*words, config=PipelineConfig), Path.home()
    assert (made.root, made.saved_models) == (home / "r", home / "s")
    assert (made.baseline, made.source) == (str(home / "s/x/1"), CSV(home / "t.csv"))


def test_a_place_of_a_step_may_be_given():
    @Step
    def soup(out: Path, *, guests: int, larder: Place) -> None:
        """Uses up what is left."""

    parse = flags.step_parser(soup, Config, absl_flags.FlagValues())
    given = {"guests": 4, "larder": None, "out": Path("o"), "strategy": "auto"}
    assert parse(["program", "--out=o"]) == given
    parse = flags.step_parser(soup, Config, absl_flags.FlagValues())
    assert parse(["program", "--out=o", "--larder=l"])["larder"] == Path("l")


def test_a_step_that_asks_for_what_no_config_has_is_refused():
    with pytest.raises(TypeError, match="Step strange has 'unknown', which the config does"):
        flags.step_parser(strange, Config)


PROGRAM = """
import os
import signal
import sys
from pathlib import Path
from pipeline import flags
from pipeline.step import NotBlessed
sys.path.insert(0, {tests!r})
from test_flags import Config, stew

def main(config):
    print(config, flush=True)
    if config.guests == 5:
        raise ValueError("Five are\\n  too many.")
    if config.guests == 6:
        raise NotBlessed("Six are worse.")
    if config.guests == 7:
        raise KeyError("seven")
    if config.guests == 9:
        print("The last line.")
        os.kill(os.getpid(), signal.SIGKILL)
    return 3 if config.guests == 8 else None

if __name__ == "__main__":
    if "--alone" in sys.argv:
        sys.argv.remove("--alone")
        flags.run_alone(sys.argv, stew, Config)
    flags.run(sys.argv, main, Config)
"""


def program(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(tests=str(ROOT / "tests")))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    command = [sys.executable, str(script), *words]
    return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("guests", "status", "error"),
    [
        (2, 0, ""),
        (5, 1, "Five are too many.\n"),
        (6, 2, "Six are worse.\n"),
        (8, 3, ""),
    ],
)
def test_a_program_ends_with_a_status_and_at_most_one_line(tmp_path, guests, status, error):
    run = program(tmp_path, f"--guests={guests}")
    assert (run.returncode, run.stderr) == (status, error)
    assert run.stdout == f"config(guests={guests})\n"


def test_a_kill_loses_no_line_of_an_output_that_is_no_terminal(tmp_path):
    run = program(tmp_path, "--guests=9")
    assert run.returncode == -signal.SIGKILL and run.stdout.endswith("\nThe last line.\n")


def test_an_error_that_is_not_the_users_keeps_its_traceback(tmp_path):
    run = program(tmp_path, "--guests=7")
    assert run.returncode == 1 and "Traceback" in run.stderr and "KeyError: 'seven'" in run.stderr


def test_verbosity_shows_where_a_plain_error_was_raised(tmp_path):
    run = program(tmp_path, "--guests=5", "--verbosity=1")
    assert "Traceback" in run.stderr and run.stderr.endswith("Five are too many.\n")


def test_a_step_alone_makes_its_product(tmp_path):
    (tmp_path / "rice").mkdir()
    (tmp_path / "rice" / "rice").write_text("o")
    words = ("--alone", "--rice=rice", "--out=stew", "--guests=3", "--pan=grill")
    first, second = program(tmp_path, *words), program(tmp_path, *words)
    assert first.returncode == second.returncode == 0, first.stderr
    assert (tmp_path / "stew" / "stew").read_text() == "ooogrill"
    assert (tmp_path / "stew" / "_manifest.json").exists()
    assert second.stdout == "stew   reused\n"
    third = program(tmp_path, "--alone", "--rice=gone", "--out=other")
    assert (third.returncode, third.stderr) == (1, "There is no folder gone.\n")


def test_a_reader_that_ends_early_gets_no_traceback(tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "pipeline", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, cwd=tmp_path, stdout=write, stderr=-1)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, b"")

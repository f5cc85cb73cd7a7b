"""The code digest: what runs counts, what is only said about it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import code

FILES = {
    "lib/__init__.py": "",
    "lib/step.py": '"""Step."""\nfrom lib import low\nimport os\n\n\ndef go():\n    return low.X\n',
    "lib/low.py": "X = 1  # One.\n",
    "lib/lazy.py": "def go():\n    from lib.low import X\n    return X\n",
    "lib/typed.py": "import typing\n"
    "if typing.TYPE_CHECKING:\n    from lib.low import X\nelse:\n    X = 2\n",
    "lib/near.py": "from . import low\nfrom .family import member\n",
    "lib/far.py": "import lib.near\n",
    "lib/ring.py": "from lib import gnir\n",
    "lib/gnir.py": "from lib import ring\n",
    "lib/family/__init__.py": '"""Members."""\n',
    "lib/family/member.py": "from lib.low import X\n",
    "lib/family/other.py": "Y = 1\n",
    "alien/__init__.py": "raise RuntimeError('never run')\n",
    "lib/page.py": "STYLE, OTHER = 'page.css', 'none.css'\n",
    "lib/page.css": "a {}\n",
    "lib/words.py": "# 'page.css'\nX = 'See page.css.'\n",
    "lib/every.py": "class One:\n    X: int\n\n    @property\n    def go(self, *, a=None, **b):\n"
    "        lambda: (yield)\n        return {**b, None: [''], 'é': f'{a!r:<{b}}'}, -1.5, b''\n",
    "lib/guest.py": "import alien\nraise RuntimeError('never run')\n",
}


@pytest.fixture
def lib(tmp_path, monkeypatch):
    """A small project of text files, on the path but never run."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    assert "lib" not in sys.modules and "alien" not in sys.modules


def digest(*modules: str) -> str:
    """Returns the digest as a fresh process does."""
    code._seen.clear()
    return code.digest(modules, roots=("lib",))


def changes(lib: Path, module: str, name: str, old: str, new: str) -> bool:
    before = digest(module)
    text = (lib / name).read_text()
    assert old in text
    (lib / name).write_text(text.replace(old, new))
    return digest(module) != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Step."""', '"""Other words."""'),
        ('"""Step."""\n', ""),
        ("import os\n", "import os  # Why.\n"),
        ("import os\n", "import os\n\n\n"),
        ("    return low.X", '    """Goes."""\n    return low.X'),
        ("    return low.X", "    return (low.X)"),
    ],
)
def test_comments_docstrings_and_layout_change_nothing(lib, old, new):
    assert not changes(lib, "lib.step", "lib/step.py", old, new)


@pytest.mark.parametrize(
    ("module", "name", "old", "new"),
    [
        ("lib.step", "lib/step.py", "low.X", "low.X + 1"),
        ("lib.step", "lib/low.py", "1", "2"),
        ("lib.step", "lib/low.py", "1", "'1'"),
        ("lib.lazy", "lib/low.py", "1", "2"),
        ("lib.near", "lib/low.py", "1", "2"),
        ("lib.far", "lib/low.py", "1", "2"),
        ("lib.far", "lib/family/member.py", "lib.low", "lib.lazy"),
        ("lib.family.member", "lib/low.py", "1", "2"),
        ("lib.typed", "lib/typed.py", "2", "3"),
        ("lib.page", "lib/page.css", "a", "b"),
    ],
)
def test_what_runs_changes_the_digest_wherever_it_stands(lib, module, name, old, new):
    assert changes(lib, module, name, old, new)


@pytest.mark.parametrize(
    ("module", "name", "old", "new"),
    [
        ("lib.typed", "lib/low.py", "1", "2"),
        ("lib.typed", "lib/typed.py", "lib.low import X", "lib.lazy import go"),
        ("lib.near", "lib/family/other.py", "1", "2"),
        ("lib.family.member", "lib/family/other.py", "1", "2"),
        ("lib.step", "lib/lazy.py", "X", "Z"),
        ("lib.words", "lib/page.css", "a", "b"),
        ("lib.guest", "alien/__init__.py", "never", "ever"),
    ],
)
def test_what_is_not_reached_changes_nothing(lib, module, name, old, new):
    assert not changes(lib, module, name, old, new)


def test_code_that_changes_in_a_process_is_refused_and_its_comments_may_change(lib):
    first = digest("lib.step")
    (lib / "lib" / "low.py").write_text("X = 1  # The first.\n")
    assert code.digest(["lib.step"], roots=("lib",)) == first
    (lib / "lib" / "low.py").write_text("X = 2\n")
    with pytest.raises(ValueError, match=r"low\.py has changed since this run began, and what"):
        code.digest(["lib.step"], roots=("lib",))
    assert digest("lib.step") != first


def test_the_digest_is_one_of_a_set_of_modules(lib):
    assert digest("lib.step", "lib.lazy") == digest("lib.lazy", "lib.step", "lib.step")
    assert digest("lib.step") != digest("lib.lazy") != digest("lib.step", "lib.lazy")


def test_the_digest_of_a_source_is_the_same_in_every_version_of_python(lib):
    expected = "5a000a71b2d73eebfe8a3fc60b2fbc411f0221c8acca69722b6f1d5f3085c052"
    assert digest("lib.every") == expected


def test_modules_that_import_each_other_have_digests(lib):
    assert digest("lib.ring") == digest("lib.gnir")


def test_a_module_of_the_users_own_counts_but_is_not_followed(lib):
    assert digest("test_code") == digest("test_code") != digest("lib.low")


def test_code_that_is_in_no_file_is_refused(lib):
    with pytest.raises(ValueError, match=r"^The code of 'lib\.gone' is in no file; put it into"):
        digest("lib.gone")


def test_the_digest_of_the_project_imports_no_tensorflow():
    program = (
        "import sys; from pipeline import code; code.digest(['tlkeras.exporter']);"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert "pipeline" in run.stdout.split()
    assert not {"numpy", "tensorflow", "keras", "absl"} & set(run.stdout.split())

"""Specs: text and value are two forms of one thing, and nothing wrong can be made."""

from __future__ import annotations

import abc
import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from tlkeras import spec
from tlkeras.spec import Spec


class Shape(Spec):
    """A family whose members are here."""

    @abc.abstractmethod
    def area(self) -> float: ...


class Disc(Shape, name="disc"):
    """A member with a default and a check."""

    radius: float = 1.0

    def area(self):
        return 3.0 * self.radius**2

    def validate(self):
        self.require(self.radius > 0, "radius", "more than 0")


class Plate(Shape, name="plate"):
    """A member with every kind of field."""

    label: str
    finish: Literal["matt", "gloss"] = "matt"
    holes: tuple[Shape, ...] = ()
    size: tuple[int, float] = (1, 2.0)
    path: Path = Path("a/b")
    limit: int | None = None
    cover: Shape | None = None
    parts: str | tuple[str, ...] = "all"
    polished: Annotated[bool, "Whether it shines."] = False

    def area(self):
        return 0.0


class Named(Spec, name="named"):
    """A spec with a field that is called name."""

    name: Annotated[str, "Its name."] = "x"  # pyright: ignore[reportIncompatibleVariableOverride]


class Filed(Shape, name="filed"):
    """A member with a file behind it."""

    text: str = "f"

    def area(self):
        return 0.0

    def fingerprint(self):
        return f"<{self.text}>"


PLATE = "plate(label='p', finish='gloss', holes=[disc, disc(radius=2.0)], size=[3, 4.5], "
PLATE += "path='c', limit=-1, cover=plate(label='q'), parts=['a', 'b'], polished=True)"


@pytest.mark.parametrize(
    "written",
    ["disc", "disc(radius=0.5)", "disc(radius=1e-07)", PLATE, "plate(label='it\\'s (a=1) | \\n')"],
)
def test_both_texts_of_a_spec_are_read_back_as_it(written):
    made = spec.parse(written, Shape)
    for text in (str(made), repr(made), made.full()):
        again = spec.parse(text, Shape)
        assert again == made and hash(again) == hash(made) and type(again) is type(made)


@pytest.mark.parametrize(
    ("written", "shortest"),
    [
        ("disc()", "disc"),
        (" disc(radius=1) ", "disc"),
        ("plate(label=word)", "plate(label='word')"),
        ("plate(label='p', holes=disc)", "plate(label='p', holes=[disc])"),
        ("plate(label='p', holes=(disc, disc))", "plate(label='p', holes=[disc, disc])"),
        ("plate(label='p', holes=disc|disc|disc)", "plate(label='p', holes=[disc, disc, disc])"),
        (PLATE, PLATE),
    ],
)
def test_the_text_of_a_spec_leaves_defaults_out(written, shortest):
    assert str(spec.parse(written, Shape)) == shortest


def test_the_full_text_names_every_field():
    assert Disc().full() == "disc(radius=1.0)"
    assert Plate("p", cover=Disc()).full() == (
        "plate(label='p', finish='matt', holes=[], size=[1, 2.0], path='a/b', limit=None, "
        "cover=disc(radius=1.0), parts='all', polished=False)"
    )


def test_a_path_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for made in (Plate("p", path=Path("~/x")), spec.parse("plate(label='p', path='~/x')", Shape)):
        assert made == Plate("p", path=Path("/home/me/x"))
    with pytest.raises(ValueError, match=r"The path '~nobody0/x' has no home folder: "):
        Plate("p", path=Path("~nobody0/x"))


def test_the_first_of_many_names_are_listed():
    names = [f"{i}" for i in range(12)]
    assert spec.listed(names) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 2 more"
    assert spec.listed(names[:10]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert spec.listed(["x"] * 3_000, most=1, separator="\n") == "x\nand 2,999 more"
    assert spec.listed([]) == ""


def test_specs_are_values():
    assert Disc(2) == Disc(2.0) != Disc(3.0)
    assert len({Disc(2), Disc(2.0), Plate("p")}) == 2
    assert Disc(1.0) != Filed()
    assert copy.deepcopy(Plate("p", holes=(Disc(),))) == Plate("p", holes=(Disc(),))
    assert pickle.loads(pickle.dumps(Plate("p"))) == Plate("p")
    with pytest.raises(AttributeError, match="cannot assign"):
        Disc().radius = 3.0  # pyright: ignore[reportAttributeAccessIssue]


def test_replacing_a_field_checks_it_again():
    assert Disc().replace(radius=2) == Disc(2.0)
    with pytest.raises(ValueError, match=r"^disc\.radius is -1\.0, expected more than 0\.$"):
        Disc().replace(radius=-1)


def test_lists_ints_and_texts_become_what_the_field_is_annotated():
    made: Any = Plate("p", holes=[Disc()], size=[3, 4], path="x")  # pyright: ignore[reportArgumentType]
    assert (made.holes, made.size, made.path) == ((Disc(),), (3, 4.0), Path("x"))
    assert type(made.size[1]) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label": 3}, "plate.label is 3, expected str."),
        ({"label": None}, "plate.label is None, expected str."),
        ({"finish": "dull"}, "plate.finish is 'dull', expected Literal['matt', 'gloss']."),
        ({"holes": (1,)}, "plate.holes[0] is 1, expected Shape."),
        ({"holes": 1}, "plate.holes is 1, expected a list of Shape."),
        ({"size": (1,)}, "plate.size has 1 items, expected 2."),
        ({"size": (True, 1.0)}, "plate.size[0] is True, expected int."),
        ({"size": (1, float("nan"))}, "plate.size[1] is nan, expected a finite float."),
        ({"size": (1, float("inf"))}, "plate.size[1] is inf, expected a finite float."),
        ({"path": 1}, "plate.path is 1, expected Path."),
        ({"limit": 1.0}, "plate.limit is 1.0, expected int or None."),
        ({"parts": 1}, "plate.parts is 1, expected str or a list of str."),
        ({"polished": 1}, "plate.polished is 1, expected bool."),
    ],
)
def test_a_value_of_another_type_is_refused_when_made(values, message):
    with pytest.raises(ValueError) as error:
        Plate(**{"label": "p", **values})
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("dics", "'dics' is not a Shape; did you mean 'disc'?"),
        ("zzz", "'zzz' is not a Shape; there are disc, filed, plate."),
        ("disc(radios=1)", "disc has no field 'radios'; did you mean 'radius'?"),
        ("disc(1)", "disc(1): write every field of disc with its name; there are radius."),
        ("disc(radius=1, radius=2)", "disc has the field radius twice."),
        ("disc(**{'radius': 1})", "disc has no field '**'; there are radius."),
        ("disc(radius=x)", "disc.radius is 'x', expected a finite float."),
        ("disc(radius=1e999)", "disc.radius is inf, expected a finite float."),
        ("plate", "plate needs label=…"),
        ("disc|disc", "'disc|disc' is (disc, disc), expected Shape."),
        ("3", "'3' is 3, expected Shape."),
        ("disc(", "'disc(' is not a call like name(field=value): '(' was never closed."),
        ("", "'' is not a call like name(field=value): invalid syntax."),
        (
            "disc(radius=__import__('os'))",
            "\"__import__('os')\" is neither a literal nor a known call; write paths and other "
            "texts in quotes.",
        ),
        (
            "plate(label=a/b)",
            "'a / b' is neither a literal nor a known call; write paths and other texts in quotes.",
        ),
    ],
)
def test_a_text_that_cannot_be_read_says_why(written, message):
    with pytest.raises(ValueError) as error:
        spec.parse(written, Shape)
    assert str(error.value) == message


@pytest.mark.parametrize("written", ["-" * 100_000 + "1", "(" * 1_000, "disc\0"])
def test_a_text_that_breaks_the_parser_is_a_value_error(written):
    with pytest.raises(ValueError):
        spec.parse(written, Shape)


def test_a_family_whose_name_begins_with_a_vowel_has_its_article():
    class Ornament(Spec):
        """A family without members."""

    with pytest.raises(ValueError, match=r"^'x' is not an Ornament; there are none\.$"):
        spec.parse("x", Ornament)


def test_several_specs_are_joined_by_bars():
    assert spec.parse_value("disc|plate(label='p')", tuple[Shape, ...]) == (Disc(), Plate("p"))
    assert spec.parse_value("disc", tuple[Shape, ...]) == (Disc(),)
    assert spec.parse_value("[]", tuple[Shape, ...]) == ()
    assert spec.parse_value("None", Annotated[Shape | None, "help"]) is None


def test_a_family_lists_its_members_by_name():
    assert spec.names(Shape) == {"disc": Disc, "filed": Filed, "plate": Plate}
    assert spec.names(Disc) == {"disc": Disc}


def test_members_in_the_package_of_a_family_are_found_when_asked_for(tmp_path, monkeypatch):
    package = tmp_path / "shelf_of_specs"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "book.py").write_text(
        "from test_spec import Shelved\n\n\nclass Book(Shelved, name='book'):\n    pages: int = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "test_spec", sys.modules[__name__])
    assert str(spec.parse("book(pages=3)", Shelved)) == "book(pages=3)"


class Shelved(Spec, plugins="shelf_of_specs"):
    """A family with a package of its own."""


def test_a_shorthand_is_expanded_unless_it_is_a_name():
    class Letter(Spec):
        """A family whose shorthand is a call with the text."""

        @classmethod
        def expand(cls, text):
            return f"a(text={text!r})"

    class A(Letter, name="a"):
        text: str = ""

    assert spec.parse("any thing/", Letter) == A("any thing/")
    assert spec.parse("a", Letter) == A()


def test_a_member_that_is_defined_again_takes_the_place_of_the_old_one():
    class Cell(Spec):
        """A family, in a notebook."""

    def defined():
        class Mine(Cell, name="mine"):
            pass

        return Mine

    old, new = defined(), defined()
    assert type(spec.parse("mine", Cell)) is new and old() != new()


def test_two_members_of_a_family_cannot_share_a_name():
    class Twins(Spec):
        """A family."""

    class One(Twins, name="twin"):
        pass

    class Two(Twins, name="twin"):
        pass

    assert One() != Two()
    with pytest.raises(TypeError, match=r"One.* and .*Two.* are both named 'twin'"):
        spec.names(Twins)


def test_a_spec_is_abstract_or_final():
    with pytest.raises(TypeError, match="Ring extends Disc, which is final"):
        type("Ring", (Disc,), {})
    with pytest.raises(TypeError, match="abstract"):
        Shape()  # pyright: ignore[reportAbstractUsage]
    with pytest.raises(TypeError, match="Shelved is abstract; make one of its members"):
        Shelved()


@pytest.mark.parametrize("annotation", [list[int], dict, set[str], object])
def test_a_field_of_another_kind_is_refused_loudly(annotation):
    bad: Any = type("Bad", (Spec,), {"__annotations__": {"x": annotation}}, name="bad")
    with pytest.raises(TypeError, match=r"^bad\.x is annotated .*, which specs do not support\.$"):
        bad(x=1)


@pytest.mark.parametrize("field", ["replace", "full", "specs", "fingerprint", "plugins"])
def test_a_field_may_not_hide_what_every_spec_has(field):
    with pytest.raises(TypeError, match=rf"^Bad\.{field} hides what every spec has\.$"):
        type("Bad", (Spec,), {"__annotations__": {field: str}}, name="bad")


def test_a_field_may_not_hide_what_its_family_has():
    with pytest.raises(TypeError, match=r"^Bad\.area hides what Shape has\.$"):
        type("Bad", (Shape,), {"__annotations__": {"area": float}, "area": 1.0}, name="bad")
    assert "bad" not in spec.names(Shape)


def test_a_field_may_be_called_name():
    assert Disc().name == "disc"
    assert Named().name == "x"
    assert str(Named("y")) == "named(name='y')"
    assert spec.parse("named(name='y')", Named) == Named("y")
    with pytest.raises(ValueError, match=r"^named\.name is 3, expected str\.$"):
        Named(3)  # pyright: ignore[reportArgumentType]


def test_the_specs_inside_a_spec_are_found():
    plate = Plate("p", holes=(Disc(), Filed()), cover=Filed("g"))
    assert list(plate.specs()) == [plate, Disc(), Filed(), Filed("g")]
    assert list(spec.inside((Disc(), Filed()))) == [Disc(), Filed()]
    assert list(spec.inside("text")) == []


def test_the_fingerprint_is_that_of_the_specs_inside():
    assert Disc().fingerprint() == ""
    assert Plate("p", holes=(Disc(), Filed()), cover=Filed("g")).fingerprint() == "<f> <g>"


def test_specs_import_nothing_but_the_standard_library():
    listed = "import sys, tlkeras.spec; print(*{m.split('.')[0] for m in sys.modules})"
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", listed], cwd=root, capture_output=True, text=True)
    assert not {"numpy", "tensorflow", "keras", "absl"} & set(run.stdout.split())

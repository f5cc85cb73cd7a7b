"""Notes: short English texts made by a grammar, a function of seed and number.

A note judges a thing, tells of a plan or asks a question; names of persons, places and things stand
in it. Praise and complaint have the same words: an adjective and whether it is denied decide. The
names in the validation and test splits are in no note for training, and a name may be that of a
person or of a place.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

LABELS = ("complaint", "plan", "praise", "question")
"""The classes of notes, which take turns."""

TAGS = ("B-person", "B-place", "B-thing", "I-person", "I-place", "I-thing", "O")
"""The tags of words: BIO."""

SPLITS = ("train",) * 8 + ("validation", "test")
"""The splits, which take turns."""

_GOOD = {"decent": 1, "excellent": 2, "handy": 1, "lovely": 2, "reliable": 1, "splendid": 2}
_BAD = {"awful": 2, "clumsy": 1, "dreadful": 2, "flimsy": 1, "noisy": 1, "useless": 2}

_SAID = (
    "was {adj}",
    "is {adj}",
    "turned out to be {adj}",
    "was not only cheap but also {adj}",
    "is as {adj} as anything ever was",
    "never stopped being {adj}",
)
_DENIED = (
    "was not {adj}",
    "is never {adj}",
    "was anything but {adj}",
    "turned out to be far from {adj}",
    "is not what anyone calls {adj}",
    "never was {adj}",
)

_JUDGED = (
    "the {thing} {noun} that {person} bought in {place} {clause} .",
    "{person} writes from {place} that the {thing} {noun} {clause} .",
    "{person} and {person} agree on {day} : the {thing} {clause} .",
    "in {place} they told {person} that the {noun} {clause} .",
    "{person} thought the {noun} from {place} would be {other} , but it {clause} .",
    "whoever asks {person} about the {thing} {noun} will hear that it {clause} .",
    "does anyone ask ? {person} knows that the {thing} {noun} {clause} .",
)
_GRAMMAR: dict[str, Sequence[str]] = {
    "complaint": _JUDGED,
    "praise": _JUDGED,
    "plan": (
        "{person} will take the {adj} {noun} to {place} on {day} .",
        "on {day} {person} goes from {place} to {place} to buy the {thing} {noun} .",
        "{person} told {person} to bring a {noun} to {place} that is not {adj} .",
        "we will meet {person} in {place} and show them the {thing} , which {clause} .",
        "before {day} {person} has to send the {thing} {noun} to {place} .",
        "{person} is to hear on {day} that the {noun} {clause} .",
        "{person} brings the {thing} on {day} , does that suit everyone in {place} ?",
    ),
    "question": (
        "does {person} know whether the {thing} {noun} {clause} ?",
        "who will take the {adj} {noun} from {place} to {person} ?",
        "{person} asks if the {noun} that they bought in {place} {clause} .",
        "was it {person} or {person} who bought the {thing} in {place} ?",
        "{person} never heard what {person} thought of the {adj} {noun} .",
        "has anyone told {person} on {day} that the {thing} {noun} {clause} ?",
    ),
}

_FACTS = (
    "{giver} sent the {thing} {noun} from {origin} to {taker} in {goal} .",
    "{taker} , who lives in {goal} , got the {thing} {noun} that {giver} had bought in {origin} .",
    "the {thing} {noun} of {giver} went from {origin} to {goal} , where {taker} keeps it .",
    "in {goal} {taker} waited for the {thing} {noun} , until {giver} sent it from {origin} .",
)
# Of each the role of a name in it, and the role of a name that makes it false.
_STATED = (
    ("{taker} has the {thing} now .", "taker", "giver"),
    ("{giver} does not have the {noun} any more .", "giver", "taker"),
    ("the {noun} came from {origin} .", "origin", "goal"),
    ("the {thing} is in {goal} .", "goal", "origin"),
)

_NOUNS = "bicycle camera clock heater kettle ladder lamp mixer printer radio stove tent"
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_FIRST = (
    "Ada Alan Amir Anna Ben Carla Chen Clara David Dora Elif Emma Farah Felix Grace Hana Henry Ida "
    "Ivan Jana Joel Juno Karim Lars Laura Leo Lin Lucy Marco Maya Mila Nadia Nils Nora Olga Omar "
    "Oscar Paula Peter Priya Ravi Rosa Ruth Sami Sara Simon Sofia Tara Theo Timo Uma Vera Viktor "
    "Wanda Yara Yusuf Zoe"
)
_FRONT = "Al Ash Bren Dor Fal Gar Hal Kel Lang Mar Nor Os Pel Rud Sten Thorn Ver Wes Win Yar"
_BACK = "berg by croft dale field ford holm ley mere stad ton wick"
_BRAND = "Bel Cor Dax Fen Jol Kip Lum Mir Nex Ond Pra Quil Riv Sol Tev Vel Zan"
_MAKE = "a eta ix o ora una"
_BEFORE = ("New", "Port", "Upper")


@dataclasses.dataclass(frozen=True)
class Note:
    """One sentence.

    Attributes:
        words: With punctuation marks as words.
        tags: The number in `TAGS` of each word.
        label: The number in `LABELS`.
        score: How good the thing is said to be, from -2 to 2; 0 if nothing is said.
    """

    words: list[str]
    tags: list[int]
    label: int
    score: float

    @property
    def text(self) -> str:
        """The words as people write them."""
        return written(self.words)


def split(number: int) -> str:
    """Returns the split of a number."""
    return SPLITS[number % len(SPLITS)]


def label(number: int, classes: int = len(LABELS)) -> int:
    """Returns the class of a number: classes have equal size in every split."""
    return number // len(SPLITS) % classes


def note(seed: int, number: int) -> Note:
    """Returns the note of a number."""
    return _note(np.random.default_rng((seed, number)), split(number), label(number))


def several(seed: int, number: int) -> tuple[str, list[int]]:
    """Returns a text of one to three notes, and their classes in order, each once."""
    random = np.random.default_rng((seed, number))
    labels = [label(number), *random.integers(len(LABELS), size=random.integers(3))]
    notes = [_note(random, split(number), int(each)) for each in labels]
    order = random.permutation(len(notes))
    text = " ".join(notes[place].text for place in order)
    return text, sorted({one.label for one in notes})


def pair(seed: int, number: int) -> tuple[str, str, int]:
    """Returns a text, a statement on it, and 1 if it holds or 0; these classes take turns.

    A statement that does not hold has another name: one of the text, or one that is not in it.
    """
    random = np.random.default_rng((seed, number))
    names = _Names(random, split(number))
    values = {"giver": names.person(), "taker": names.person()}
    values |= {"origin": names.place(), "goal": names.place()}
    values |= {"thing": names.thing(), "noun": [_one(random, _NOUNS.split())]}
    text = _filled(_one(random, _FACTS), values)
    statement, role, other = _STATED[int(random.integers(len(_STATED)))]
    holds = label(number, classes=2)
    if not holds:
        new = names.person() if other in ("giver", "taker") else names.place()
        values[role] = values[other] if random.integers(2) else new
    return text, _filled(statement, values), holds


def _filled(template: str, values: Mapping[str, Sequence[str]]) -> str:
    """Returns a template as people write it, with words in place of its names in braces."""
    tokens = template.split()
    return written([word for token in tokens for word in values.get(token.strip("{}"), [token])])


def written(words: Sequence[str]) -> str:
    """Returns words as people write them: a capital letter first, no blank before a mark."""
    text = " ".join(words)
    for mark in ".,?:":
        text = text.replace(f" {mark}", mark)
    return text[:1].upper() + text[1:]


class _Names:
    """Names of persons, places and things, of those that a split may have, none of them twice."""

    def __init__(self, random: np.random.Generator, split: str) -> None:
        self._random, self._used = random, set[str]()
        self._first = _share(_FIRST.split(), split)
        self._last = _share(_joined(_FRONT, _BACK), split)
        self._brands = _share(_joined(_BRAND, _MAKE), split)

    def person(self) -> list[str]:
        """Returns a first name, a last name, or both."""
        first, last = self._new(self._first), self._new(self._last)
        return [[first], [first, last], [last]][self._random.choice(3, p=[0.5, 0.35, 0.15])]

    def place(self) -> list[str]:
        """Returns a name that might be a last name, sometimes with a word before it."""
        before = [_one(self._random, _BEFORE)] if self._random.random() < 0.25 else []
        return [*before, self._new(self._last)]

    def thing(self) -> list[str]:
        """Returns a brand, sometimes with a number."""
        number = [f"{self._random.integers(1, 10)}00"] if self._random.random() < 0.4 else []
        return [self._new(self._brands), *number]

    def _new(self, names: Sequence[str]) -> str:
        while (name := _one(self._random, names)) in self._used:
            pass
        self._used.add(name)
        return name


def _joined(fronts: str, backs: str) -> list[str]:
    return [front + back for front, back in itertools.product(fronts.split(), backs.split())]


def _share(names: Sequence[str], split: str) -> list[str]:
    """Returns the names for a split: every fifth is for the test, the next for validation."""
    places = {"test": (0,), "validation": (1,), "train": (2, 3, 4)}[split]
    return [name for place, name in enumerate(names) if place % 5 in places]


def _note(random: np.random.Generator, split: str, label: int) -> Note:
    kind = LABELS[label]
    is_good = {"praise": True, "complaint": False}.get(kind, bool(random.integers(2)))
    is_denied = bool(random.integers(2))
    adjectives = _GOOD if is_good != is_denied else _BAD
    adjective = _one(random, [*adjectives])
    clause = _one(random, _DENIED if is_denied else _SAID)
    template = _one(random, _GRAMMAR[kind]).replace("{clause}", clause)
    plain = {
        "{adj}": adjective,
        "{other}": _one(random, [*(_BAD if is_good else _GOOD)]),
        "{noun}": _one(random, _NOUNS.split()),
        "{day}": _one(random, _DAYS.split()),
    }
    names, words, tags = _Names(random, split), list[str](), list[str]()
    for token in template.split():
        if (of := token.strip("{}")) in ("person", "place", "thing"):
            found = getattr(names, of)()
            tags += [f"{'I' if place else 'B'}-{of}" for place in range(len(found))]
        else:
            found = [plain.get(token, token)]
            tags.append("O")
        words += found
    words[0] = words[0][:1].upper() + words[0][1:]
    strength = 1 if is_denied else adjectives[adjective]  # "Not splendid" is not yet "awful".
    score = (strength if is_good else -strength) if _GRAMMAR[kind] is _JUDGED else 0
    return Note(words, [TAGS.index(tag) for tag in tags], label, float(score))


def _one(random: np.random.Generator, of: Sequence[str]) -> str:
    return of[int(random.integers(len(of)))]

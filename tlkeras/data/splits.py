"""Split: which examples are for training, which for validation and which for the test."""

from __future__ import annotations

import hashlib
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tlkeras.doctor.sets import Sets
from tlkeras.spec import Spec

TRAIN, VALIDATION, TEST = "train", "validation", "test"

# A class with fewer groups has none to spare for all three splits.
_GROUPS_TO_LEND = 5

# The class of examples without one.
_UNLABELLED = (-1,)

_WORDS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
}

# What data sets write around such a word: ``training_set``, ``seg_train``, ``obj_train_data``.
_AROUND = {"set", "data", "dataset", "seg", "obj", "split", "images", "imgs", "img", "image"}

# A year behind such a word, ``train2017``; other numbers, ``train1``, are of folds.
_YEAR = re.compile(r"(?<=[a-z])(19|20)\d\d$")


def named(word: str) -> str | None:
    """Returns the split that users call by a word (``Val``, ``train2017``), or None."""
    words = (_YEAR.sub("", part) for part in re.split(r"[\W_]+", word.lower()))
    parts = [part.removesuffix("set") for part in words]
    bare = [part for part in parts if part and part not in _AROUND]
    return _WORDS.get(bare[0]) if len(bare) == 1 else None


def of_folders(identity: str) -> str | None:
    """Returns the split that one of the folders in an id is called by, the outermost one."""
    folders = identity.split("/")[:-1]
    return next((split for folder in folders if (split := named(folder))), None)


def labelled(class_counts: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    """Returns the counts of classes by split, without a split "target" that has no labels.

    Its records hold stand-ins, see `sources.domains`.
    """
    return {name: row for name, row in class_counts.items() if name != "target" or any(row)}


class Split(Spec, name="split"):
    """Shares of the examples, in percent, chosen by a hash of each example's id.

    An example whose hash, mapped to [0, 100), is below `test` is in the test split, one below
    `test + validation` in the validation split, any other in the training split. So an example
    stays in its split when others come or go. Small classes have two exceptions:

    - A class without a group in training gets there its group of the largest hash.
    - A class of at least five groups, none of them in a split with a share, lends it the group of
      its smallest hash in training.

    These groups may change while the class grows; with enough examples the hash alone decides.
    """

    validation: float = 10.0
    test: float = 10.0
    group: str = ""
    """A regex searched in the id: examples with equal group 1 (or match) stay on one side."""
    dedup: bool = False
    """Whether exact and near copies stay on one side; the data are read before they are cut."""

    def validate(self):
        for share in ("validation", "test"):
            percent = getattr(self, share)
            if 0 < percent < 1:
                meant = round(100 * percent, 6)
                advice = f" For that share write {share}={meant:.8g}." if meant >= 1 else ""
                raise ValueError(
                    f"split.{share} is {percent}, expected percent: 0, or from 1 to below 100."
                    f"{advice}"
                )
            self.require(0 <= percent < 100, share, "percent from 0 to below 100")
        if self.validation + self.test >= 100:
            raise ValueError(
                f"split.validation is {self.validation} and split.test is {self.test}, "
                "expected less than 100 percent together: the rest is for training."
            )
        try:
            re.compile(self.group)
        except re.error as error:
            self.require(False, "group", f"a regular expression ({error})")

    def group_of(self, identity: str, named: str | None = None) -> str:
        """Returns the name of an example's group; an id that does not match is its own.

        Args:
            identity: The id.
            named: The group that the source names, which counts where the field `group` is empty.
        """
        return (named if not self.group else None) or self._found(identity) or identity

    def torn(
        self, sides: Mapping[str, str], named: Callable[[str], str | None] = lambda identity: None
    ) -> list[str]:
        """Returns the groups in more than one split, left by splits of the user's own.

        A group that the source names is told as two of its examples, see `Source.stays_with`; the
        field `group` may leave such groups, too.

        Args:
            sides: The split of every id.
            named: From an id to the group that the source names.

        Raises:
            ValueError: `group` is found in none of the ids.
        """
        groups = {identity: self._found(identity) for identity in sides} if self.group else {}
        if groups and not any(groups.values()):
            self.require(False, "group", f"a match in ids such as {next(iter(sides))!r}")
        return [
            *sorted(_over(sides, groups.get)),
            *(
                " and ".join(f"{identity} ({side})" for side, identity in found.items())
                for found in _over(sides, named).values()
            ),
        ]

    def ungrouped(self, ids: Iterable[str]) -> list[str]:
        """Returns the ids in which `group` is not found; none without a `group`."""
        return [identity for identity in ids if self.group and not self._found(identity)]

    def _found(self, identity: str) -> str:
        """Returns the group in an id, or an empty text."""
        match = re.search(self.group, identity) if self.group else None
        return match.group(1 if match.re.groups else 0) or "" if match else ""


def _over(
    sides: Mapping[str, str], group_of: Callable[[str], str | None]
) -> dict[str, dict[str, str]]:
    """Returns an example on each side of every group that is on more than one."""
    found: dict[str, dict[str, str]] = {}
    for identity, side in sides.items():
        if group := group_of(identity):
            found.setdefault(group, {}).setdefault(side, identity)
    return {group: each for group, each in found.items() if len(each) > 1}


def assigned(
    split: Split,
    ids: Sequence[str],
    labels: Sequence[Sequence[int]],
    given: Sequence[str | None],
    named: Sequence[str | None] | None = None,
    twins: Mapping[str, str] = types.MappingProxyType({}),
) -> list[str]:
    """Returns the split of every example.

    Args:
        split: The shares.
        ids: The examples.
        labels: The numbers of the classes of each; empty if it has none.
        given: The split of each in the user's own cut, or None. Such a split keeps exactly its
            examples; missing ones are cut from ``train`` and from examples without a split.
        named: The group of each that the source names, see `Source.stays_with`.
        twins: By id, the name of the set of copies that an example is in, if it is in one; copies
            and the groups that they are in stay on one side.
    """
    made = {name for name in given if name}
    shares = {name: getattr(split, name) for name in (TEST, VALIDATION) if name not in made}
    groups = [
        split.group_of(identity, name) if own in (None, TRAIN) else None
        for identity, own, name in zip(ids, given, named or [None] * len(ids), strict=True)
    ]
    groups = _joined(ids, groups, twins)
    spots = {group: _spot(group) for group in groups if group is not None}
    sides = {group: _side(spot, shares) for group, spot in spots.items()}
    ordered = sorted(spots, key=lambda group: (spots[group], group))
    wanted = [name for name, share in shares.items() if share]
    classes = _classes(groups, labels)
    members = _by_class(ordered, classes)
    _keep(sides, members)
    _lend(sides, members, classes, wanted)
    return [
        own or TRAIN if group is None else sides[group]
        for group, own in zip(groups, given, strict=True)
    ]


def _joined(
    ids: Sequence[str], groups: Sequence[str | None], twins: Mapping[str, str]
) -> Sequence[str | None]:
    """Returns the groups, those that copies connect under the name of one of them.

    That one is chosen by a hash that has no part in `_spot`: the least spot of several would bring
    more of them into the test than its share. So a side depends on nothing but copies.
    """
    if not twins:
        return groups
    sets = Sets()
    for identity, group in zip(ids, groups, strict=True):
        if group is not None and identity in twins:
            sets.join(("group", group), ("twins", twins[identity]))
    names: dict[Any, str] = {}
    for group in {each for each in groups if each is not None}:
        root = sets.root(("group", group))
        names[root] = min(names.get(root, group), group, key=_rank)
    return [None if group is None else names[sets.root(("group", group))] for group in groups]


def _rank(group: str) -> tuple[bytes, str]:
    """Returns the rank of a group among those that are joined, from the end of its sha256."""
    return hashlib.sha256(group.encode("utf-8", "surrogateescape")).digest()[6:], group


def _spot(group: str) -> float:
    """Returns the place in [0, 100) of a group, from the first 48 bits of its sha256."""
    digest = hashlib.sha256(group.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48 * 100


def _side(spot: float, shares: Mapping[str, float]) -> str:
    end = 0.0
    for name, share in shares.items():
        end += share
        if spot < end:
            return name
    return TRAIN


def _classes(
    groups: Sequence[str | None], labels: Sequence[Sequence[int]]
) -> dict[str, Sequence[int]]:
    """Returns the numbers of the classes of every group, each once; -1 is of examples without."""
    found: dict[str, Sequence[int]] = {}
    for group, numbers in zip(groups, labels, strict=True):
        if group is not None:
            held, own = found.get(group, ()), numbers or _UNLABELLED
            # Most groups are one example of one class, whose numbers many share.
            if held is not own:
                plain = not held and len(own) == 1
                found[group] = own if plain else tuple(dict.fromkeys((*held, *own)))
    return found


def _by_class(ordered: Sequence[str], classes: Mapping[str, Sequence[int]]) -> dict[int, list[str]]:
    """Returns the groups of every class, by its number, each list in the given order."""
    members: dict[int, list[str]] = {}
    for group in ordered:
        for number in classes[group]:
            members.setdefault(number, []).append(group)
    return dict(sorted(members.items()))


def _keep(sides: dict[str, str], members: Mapping[int, Sequence[str]]) -> None:
    """Moves the last group of each class that has none in training there, in place."""
    for groups in members.values():
        if all(sides[group] != TRAIN for group in groups):
            sides[groups[-1]] = TRAIN


def _lend(
    sides: dict[str, str],
    members: Mapping[int, Sequence[str]],
    classes: Mapping[str, Sequence[int]],
    wanted: Sequence[str],
) -> None:
    """Moves a group of training to each split with a share that has none of a class, in place."""
    training = {
        label: sum(sides[group] == TRAIN for group in groups) for label, groups in members.items()
    }
    for groups in members.values():
        for name in wanted:
            if len(groups) < _GROUPS_TO_LEND or any(sides[group] == name for group in groups):
                continue
            # No class that the group holds may lose its last group of training.
            spare = (
                group
                for group in groups
                if sides[group] == TRAIN and all(training[x] > 1 for x in classes[group])
            )
            if (group := next(spare, None)) is not None:
                sides[group] = name
                for label in classes[group]:
                    training[label] -= 1

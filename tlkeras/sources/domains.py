"""Domains: labelled examples of one source beside those of another, for domain adaptation."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from tlkeras import spec
from tlkeras.data import splits
from tlkeras.data.splits import Split
from tlkeras.kind import Kind
from tlkeras.source import Source


class Domains(Source, name="domains"):
    """The labelled examples of `source`, and those of `target`, another domain of the same classes.

    Examples of `target` are in two splits: ``target``, of which recipes read everything but the
    labels, and ``target_test``, which only measures. If it has splits of its own, its test split is
    ``target_test``, and all others are ``target``; else `cut` decides. Its ids begin with
    ``target/``; those of `source` are as they would be without a target, and so are their splits.

    A `target` without labels has no ``target_test``. Its records hold stand-ins, as every record
    has a label; no class counts them.
    """

    source: Source
    target: Source
    cut: Split = Split(validation=0.0, test=20.0)
    """The share of `target` that measures; what it gives to validation is in ``target``, too."""

    def title(self):
        return f"{self.source.title()}_to_{self.target.title()}"

    def features(self):
        """Returns the kinds of `source`.

        Raises:
            ValueError: Those of `target` are others.
        """
        kinds, others = self.source.features(), self.target.features()
        for place, (key, kind) in enumerate(kinds.items()):
            # What a network reads comes first; of what is predicted there may be none.
            may_lack = place > 0 and not kind.pixelwise and {*others} < {*kinds}
            if others.get(key) != kind and not (may_lack and key not in others):
                found = f"{others[key]}" if key in others else f"only {', '.join(others)}"
                raise ValueError(
                    f"domains.target has {found}, expected {key!r} of kind {kind} as in "
                    f"domains.source. Give two sources of the same kinds."
                )
        return kinds

    def classes(self):
        """Returns the names of the classes of `source`.

        Raises:
            ValueError: Those of `target` are others.
        """
        names = self.source.classes()
        # Without an example there is no class, either, which is the less to say.
        if self._sides and self._is_labelled and (others := self.target.classes()) != names:
            less, more = (
                [x for x in a if x not in b] for a, b in ((names, others), (others, names))
            )
            parts = [
                f"{text} {spec.listed(each)}"
                for text, each in (("lacks", less), ("also has", more))
                if each
            ]
            raise ValueError(
                f"domains.target has other classes than domains.source: it "
                f"{' and '.join(parts) or 'has them in another order'}. Adaptation is between "
                f"domains of the same classes, {spec.listed(names)}."
            )
        return names

    def examples(self):
        yield from self.source.examples()
        yield from self._targets(0, len(self._sides))

    def between(self, start, stop):
        first = self._first
        yield from self.source.between(min(start, first), min(stop, first))
        yield from self._targets(max(start - first, 0), max(stop - first, 0))

    def labels(self):
        yield from self.source.labels()
        for identity, numbers in self.target.labels():
            yield f"target/{identity}", numbers if self._is_labelled else ()

    def fingerprint(self):
        return f"{self.source.fingerprint()} {self.target.fingerprint()}"

    def split(self, identity):
        return self._sides.get(identity) or self.source.split(identity)

    def stays_with(self, identity):
        if identity not in self._sides:
            return self.source.stays_with(identity)
        named = self.target.stays_with(identity.removeprefix("target/"))
        return f"target/{named}" if named else None

    def remarks(self):
        found = [*self.source.remarks(), *self.target.remarks()]
        if not self._is_labelled:
            lacking = ", ".join(map(repr, self._lacking))
            found.append(f"The target has no {lacking}, so no example of it is measured.")
        return found

    def left_out(self):
        yield from self.source.left_out()
        for name, defect, reason in self.target.left_out():
            yield f"target/{name}", defect, reason

    @functools.cached_property
    def _lacking(self) -> Mapping[str, Kind]:
        """The kinds that `target` does not have."""
        others = self.target.features()
        return {key: kind for key, kind in self.features().items() if key not in others}

    @property
    def _is_labelled(self) -> bool:
        return not self._lacking

    @functools.cached_property
    def _first(self) -> int:
        """The number of the first example of `target`."""
        return sum(1 for _ in self.source.labels())

    @functools.cached_property
    def _sides(self) -> dict[str, str]:
        """The split of every example of `target`, by its id here.

        Raises:
            ValueError: None is left to adapt to.
        """
        ids, labels = [], []
        for identity, numbers in self.target.labels():
            ids.append(identity)
            labels.append(numbers)
        given, named = map(self.target.split, ids), map(self.target.stays_with, ids)
        sides = splits.assigned(self.cut, ids, labels, [*given], [*named])
        measures = {splits.TEST} if self._is_labelled else set()
        found = {
            f"target/{identity}": "target_test" if side in measures else "target"
            for identity, side in zip(ids, sides, strict=True)
        }
        if "target" not in found.values():
            raise ValueError(
                f"domains.target, {self.target}, leaves no example to adapt to: "
                f"{f'all {len(ids):,} are in its test split' if ids else 'it has none'}."
            )
        return found

    def _targets(self, start, stop):
        """Yields examples of `target` from number `start` on, with the features of `source`."""
        kinds, lacking = self.features(), self._lacking
        stand_ins = {key: kind.sample() for key, kind in lacking.items()}
        for identity, values in self.target.between(start, stop):
            values = {**values, **stand_ins}
            yield f"target/{identity}", {key: values[key] for key in kinds}

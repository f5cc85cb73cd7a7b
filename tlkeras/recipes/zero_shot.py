"""ZeroShot: a head from the names of the classes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from tlkeras import files, hardware, spec
from tlkeras.backbone import Backbone
from tlkeras.measures import measures
from tlkeras.measures.measures import Table
from tlkeras.recipe import Recipe
from tlkeras.texts import inputs
from tlkeras.training import descriptions, schedule
from tlkeras.training.head_alone import HeadAlone, require_label

_FILE = "hidden.json"


class ZeroShot(Recipe, name="zero_shot"):
    """Sets the head by what the classes are called; no class needs an example.

    A name, ``water_lilly`` read as ``water lilly``, stands in each of the `prompts` for its ``{}``.
    The rows of these texts have unit length; their mean, at unit length again, describes the class
    (Radford et al. 2021, https://arxiv.org/abs/2103.00020).

    If the backbone knows words, such as ``clip``, the logit of a class is the product of features
    and description: the largest is that of the largest cosine. Without `text`, training examples
    change nothing. One factor of all logits has the least loss on the validation split.

    For other backbones, `text` is a text network whose ``pooled`` features describe the classes. A
    map from features to descriptions is found on the classes that have training examples; see
    `descriptions`. It serves those that have none, too. `unseen` hides the examples of some classes
    from it, in order to measure: names, or a share, at least one class, that the seed draws. The
    report names them.
    """

    names_suffice = True

    prompts: tuple[str, ...] = ("a photo of a {}.",)
    text: Backbone | None = None
    unseen: float | tuple[str, ...] = ()
    cache: Literal["float16", "float32", "none"] = "float16"

    def validate(self):
        self.require(len(self.prompts) > 0, "prompts", "at least one text")
        holed = all(each.count("{}") == 1 for each in self.prompts)
        self.require(holed, "prompts", "texts with {} once, where the name of a class belongs")
        if isinstance(self.unseen, float):
            self.require(0 < self.unseen < 1, "unseen", "names of classes, or a share in (0, 1)")
        if self.unseen and self.text is None:
            raise ValueError(
                f"zero_shot.unseen is {self.unseen!r}, but without text no example is used, so "
                "every class is unseen. Leave it out, or name a text network."
            )
        if self.text is not None:
            expected = "a network that reads a text alone"
            self.require(self.text.reads == ("text",), "text", expected)

    def views(self, folder):
        file = spec.path(folder) / _FILE
        return [files.read_json(file)] if file.exists() else []

    def fit(self, model, data, folder, callbacks=(), shared=None):
        logs = schedule.fit(
            self,
            model,
            data,
            folder,
            callbacks,
            shared,
            phases=(_ClassNames(self.prompts, self.text, self.unseen),),
            cache=self.cache,
        )
        hidden = hidden_classes(self.unseen, data.classes, data.seed)
        if hidden.any() and hardware.is_chief():
            view = measures.plain_view(_told([*itertools.compress(data.classes, hidden)]))
            files.write_json(spec.path(folder) / _FILE, view)
        return logs


class _ClassNames(HeadAlone, name="class_names"):
    """The part of a schedule that does it; the fields are those of `ZeroShot`."""

    prompts: tuple[str, ...]
    text: Backbone | None
    unseen: float | tuple[str, ...]

    def require_fit(self, model, data, start):
        require_label(model.task, "zero_shot")
        super().require_fit(model, data, start)
        for name in data.classes:
            if not re.search(r"[^\W\d_]", words_of(name)):
                raise ValueError(
                    f"zero_shot: the class {name!r} has no word in its name, so nothing is known "
                    "of it. Rename the classes, or use probe or fine_tune."
                )
        if self.text is None:
            if model.backbone.words([_said(self.prompts[0], "thing")]) is None:
                raise ValueError(
                    f"zero_shot: the backbone {model.backbone.name} knows no words. Use one that "
                    "does, such as clip or siglip, or name a text network, "
                    "zero_shot(text=starter_text)."
                )
            return
        hidden = hidden_classes(self.unseen, data.classes, data.seed)
        counts = np.array(data.info.class_counts["train"])
        seen = int((counts[~hidden] > 0).sum())
        if seen < descriptions.LEAST:
            raise ValueError(
                f"zero_shot: {seen} of {len(data.classes)} classes have training examples and are "
                f"not in unseen; expected at least {descriptions.LEAST}, from which the others are "
                "inferred."
            )

    def solution(self, head, rows, checked, metric, seed, *beside):
        """Returns kernel and bias; see `ZeroShot`."""
        classes = head.model.classes
        if self.text is None:
            described = descriptions_of(classes, self.prompts, head.model.backbone.words)
            weights = described.T, np.zeros(len(classes))
            return head.sharpened(weights, checked, checked.ones() if checked else None)
        described = descriptions_of(classes, self.prompts, reader(self.text))
        hidden = hidden_classes(self.unseen, classes, seed)
        labels = rows.targets.argmax(axis=-1)
        features = head.features(rows)
        known = ~hidden[labels]
        if hidden.any():
            print(f"  hidden classes: {spec.listed([*itertools.compress(classes, hidden)])}")
        weights, choice = descriptions.fitted(features[known], labels[known], described, seed)
        print(
            f"  penalties {choice.penalty:g} and {choice.description_penalty:g}: "
            f"{choice.accuracy:.4f} of classes left out among themselves, harmonic mean "
            f"{choice.harmonic:.4f} among all"
        )
        counted = None
        if checked:
            counted = (~hidden[checked.targets.argmax(axis=-1)]).astype(np.float32)
        return head.sharpened(weights, checked, counted)


def _said(prompt: str, name: str) -> str:
    return prompt.replace("{}", name)  # Other braces are text.


def words_of(name: str) -> str:
    """Returns the name of a class as words, without an id of WordNet before it."""
    bare = re.sub(r"^n\d{8}[\W_]+", "", name)
    return re.sub(r"[\W_]+", " ", bare).strip()


def descriptions_of(
    classes: Sequence[str],
    prompts: Sequence[str],
    rows_of: Callable[[Sequence[str]], np.ndarray | None],
) -> np.ndarray:
    """Returns a row of unit length for each class, float64 [classes, width]."""
    found = rows_of([_said(prompt, words_of(name)) for name in classes for prompt in prompts])
    assert found is not None  # `require_fit` has asked.
    rows = np.asarray(found, np.float64).reshape(len(classes), len(prompts), -1)
    return _unit(_unit(rows).mean(axis=1))


def reader(text: Backbone) -> Callable[[Sequence[str]], np.ndarray]:
    """Returns a function from texts to the ``pooled`` features of a text network, [n, width]."""
    network = text.build()
    return lambda texts: inputs.in_parts(
        texts, lambda batch: network(text.preprocess({"text": batch}), training=False)["pooled"]
    )


def hidden_classes(unseen: float | Sequence[str], classes: Sequence[str], seed: int) -> np.ndarray:
    """Returns which classes `unseen` names or the seed draws, bool [classes].

    Raises:
        ValueError: A name is that of no class.
    """
    if isinstance(unseen, (int, float)):
        count = max(round(unseen * len(classes)), 1)
        chosen = np.random.default_rng(seed).permutation(len(classes))[:count]
        return np.isin(np.arange(len(classes)), chosen)
    if strange := [name for name in unseen if name not in classes]:
        raise ValueError(
            f"zero_shot.unseen has {strange[0]!r}, which is no class; "
            f"{spec.nearest(strange[0], [*classes])}"
        )
    return np.isin(classes, [*unseen])


def _told(names: Sequence[str]) -> Table:
    return Table(
        "Hidden classes",
        ["class"],
        [[name] for name in names],
        "The training examples of these classes were hidden from the fit (zero_shot.unseen), in "
        "order to measure classes of which the name alone is known.",
    )


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)

"""Schedule: phases of training in order, each with the blocks that it trains."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras import files, hardware, spec
from tlkeras.frameworks import as_written, keras, tf
from tlkeras.model import graph, lengths
from tlkeras.model.transfer_model import HEAD
from tlkeras.recipe import Recipe
from tlkeras.task import Task
from tlkeras.training import balance as balancing
from tlkeras.training import features, layer_decay, loop, rate_finder
from tlkeras.training.adapters import Adapters
from tlkeras.training.balance import Balance, Cells
from tlkeras.training.features import Cache, Features, Tap
from tlkeras.training.head_alone import HeadAlone
from tlkeras.training.phase import Phase
from tlkeras.training.trainable import trainable

if TYPE_CHECKING:
    from tlkeras.data.batches import Data
    from tlkeras.model.transfer_model import TransferModel

# Measured: at 8, an epoch of a head takes half of its time at 1; at 32 hardly less.
_STEPS_ON_FEATURES = 8

# Trained weights up to which a model keeps its optimizer for another fit: with Adam's, 256 MB.
_MOST = 32e6

Part = Phase | HeadAlone
"""What a schedule consists of."""


def fit(
    recipe: Recipe,
    model: TransferModel,
    data: Data,
    folder: Path | str,
    callbacks: Sequence[Any],
    shared: Cache | None,
    *,
    phases: Sequence[Part],
    class_weight: str = "none",
    cache: str = "float16",
    balance: str = "none",
    group_dro: float = 0.0,
    adapt: Callable[[Sequence[str]], Adapters] | None = None,
    beside: str = "",
) -> list[dict[str, Any]]:
    """Fits the phases of a recipe in order, for `Recipe.fit`.

    `class_weight`, `balance`, `group_dro` and `cache` are fields of `fine_tune`. With `adapt`, its
    low-rank changes of the unfrozen blocks are trained instead of their weights, and merged at the
    end of a phase.
    `beside` is a split that the phases read next to the training split, without changes.
    """
    model.require(data)
    loop.require(callbacks)
    if class_weight == "balanced" and type(model.task).weighted is Task.weighted:
        model.task.weighted(None, None)  # Which refuses them.
    folder = spec.path(folder)
    # Each of several workers has its share of every batch, also of the features.
    whole, data = data, dataclasses.replace(data, part=hardware.part())
    starts = _starts(model, phases)
    for phase, start in zip(phases, starts, strict=True):
        phase.require_fit(model, data, start)
    cells = None
    if balance == "group" or group_dro:
        asker = f"{recipe.member}.{'group_dro' if group_dro else 'balance'}"
        cells = balancing.cells(data, asker, [each for part in phases for each in part.augment])
    _claim(folder, recipe, model, data, starts, beside)
    model.initialize(data.targets_of("train"))
    todo = [
        (phase, start)
        for number, (phase, start) in enumerate(zip(phases, starts, strict=True))
        if not loop.is_finished(_place(folder, number), phase.epochs, phase.patience)
    ]
    cached = _cached(model, data, todo, shared or Cache(folder / "features"), cache, beside)
    class_weights = _class_weights(data) if class_weight == "balanced" else None
    # The factors of group DRO go on from phase to phase.
    balanced = Balance(cells, group_dro, model.task, model.classes) if cells else None
    logs: list[dict[str, Any]] = []
    first, state = 0, loop.State()
    for number, (phase, start) in enumerate(zip(phases, starts, strict=True)):
        print(f"phase {number + 1} of {len(phases)}: {phase}")
        chosen = model.chosen(phase.unfreeze)
        adapters = adapt(chosen) if adapt and chosen else None
        model.train_only([] if adapters else chosen, batch_norm=phase.batch_norm)
        own = whole if phase.is_alone else data
        own.targets  # noqa: B018 - It caches them; a batch of features needs them in a graph.
        feeds = {
            tap: dataclasses.replace(cached[tap], data=own)
            for tap in _taps(data, phase, start, beside)
            if tap in cached
        }
        # Steps of all blocks, on the pieces of texts, take too long to gain by it.
        is_fast = _freezes(model, start) and any(tap.split == "train" for tap in feeds)
        trained = _trained(model, phase, (number, start, cache), adapters, balanced)
        known = _lengths(model, data, start, feeds)
        train = functools.partial(_train, own, phase, start, feeds, known, cells)
        if class_weights is not None:
            train = _weighted(train, model.task, class_weights)
        compiled = functools.partial(_compiled, trained, model, data, adapters)
        place = _place(folder, number)
        options = {"first": first, "seed": data.seed, "folder": place}
        settled = phase.settled(
            functools.partial(rate_finder.found, trained, compiled, train, **options)
        )
        compiled(settled, _STEPS_ON_FEATURES if is_fast else 1)
        state = phase.fit(
            model,
            trained,
            train,
            _in_order(own, "validation", start, feeds, cells),
            beside=_in_order(own, beside, start, feeds) if beside else None,
            metric=recipe.metric(model.task, model.classes),
            start=state,
            first=first,
            seed=data.seed,
            folder=place,
            callbacks=callbacks,
        )
        if adapters:
            adapters.merge()
        found = {"learning_rate": settled.learning_rate} if settled != phase else {}
        logs += [
            {"phase": number, "epoch": first + i, **log, **found}
            for i, log in enumerate(state.history)
        ]
        first += phase.epochs
    return logs


def frozen(model: TransferModel, data: Data, parts: Sequence[Part]) -> list[Tap]:
    """Returns the taps from which the parts of a schedule start, of unchanged examples."""
    starts = zip(parts, _starts(model, parts), strict=True)
    return [
        tap
        for part, start in starts
        if _freezes(model, start)
        for tap in _taps(data, part, start, "")
        if not tap.augments
    ]


def _compiled(
    trained: Any,
    model: TransferModel,
    data: Data,
    adapters: Adapters | None,
    phase: Part,
    steps_at_once: int,
) -> None:
    """Lets the trained part of a model start with a new optimizer of a phase."""
    with hardware.scope():
        trained.start(
            optimizer=phase.compiled_optimizer(
                phase.epochs * data.steps("train"),
                layer_decay.factors(model, phase.layer_decay, adapters),
            ),
            loss=model.task.loss(),
            metrics=model.task.metrics(model.classes),
            steps_per_execution=steps_at_once,
            **({"weighted_metrics": trained.balance.metrics()} if trained.balance else {}),
        )


def _cached(
    model: TransferModel,
    data: Data,
    todo: Sequence[tuple[Part, str]],
    shared: Cache,
    cache: str,
    beside: str,
) -> dict[Tap, Features]:
    """Returns the features for all phases, each with its start, that may use them.

    One pass over each view of a split suffices: no phase trains layers before its start.
    """
    taps = {
        tap: None
        for phase, start in todo
        if cache != "none" and (_freezes(model, start) or data.is_ready)
        for tap in _taps(data, phase, start, beside)
    }
    return features.at(model, data, taps, shared, cache) if taps else {}


def _place(folder: Path, number: int) -> Path:
    """Returns the folder of a phase."""
    return folder / f"phase{number}"


def _claim(
    folder: Path,
    recipe: Recipe,
    model: TransferModel,
    data: Data,
    starts: Sequence[str],
    beside: str,
) -> None:
    """Writes the description of this fit, so that no other fit resumes from its progress.

    Raises:
        ValueError: The folder holds the progress of another fit.
    """
    if not hardware.is_chief():
        return  # The workers compare their fits when they meet.
    # No phase changes these layers; their digest detects other pretrained weights.
    frozen = _freezes(model, starts[-1])
    fitted = {
        "recipe": recipe.full(),
        "backbone": model.backbone.full(),
        "preparation": model.backbone.preparation()[:16],
        "precision": sorted({layer.dtype_policy.name for layer in model.full.layers}),
        "task": model.task.full(),
        "classes": list(data.classes),
        "kinds": data.target_kinds,
        "decoded_in_full": data.is_whole,
        "examples": {
            name: f"{data.count(name)} of digest {data.digest(name)[:16]}"
            for name in ("train", "validation", *([beside] if beside else []))
        },
        "batch_size": data.batch_size,
        "seed": data.seed,
        "model_seed": model.seed,
        "frozen": graph.digest(model.split_at(starts[-1])[0])[:16] if frozen else "",
    }
    path = folder / "fit.json"
    if path.exists():
        before = files.read_json(path)
        for name, value in fitted.items():
            # An earlier version wrote neither kinds nor how data are prepared and decoded.
            if (other := before.get(name, value)) != value:
                raise ValueError(
                    f"{folder} holds the progress of another fit, with {name} {other}, "
                    f"not {value}. Use a new folder for this fit, or remove that one."
                )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(path, fitted)


def _taps(data: Data, phase: Part, start: str, beside: str) -> list[Tap]:
    """Returns the taps of a phase: one for every view of the training split, and of others one.

    The training split has none if every epoch has its own pictures.
    """
    views = phase.views if phase.augment else 1
    taps = [Tap("train", start, phase.augment, view) for view in range(views)]
    return taps + [Tap(split, start) for split in ("validation", beside) if data.count(split)]


def _lengths(
    model: TransferModel, data: Data, start: str, feeds: Mapping[Tap, Features]
) -> np.ndarray | None:
    """Returns the lengths of the rows that a phase trains on; None if all are equal."""
    if hardware.replicas() > 1 or not lengths.vary(model.backbone, model.full):
        return None
    if not any(lengths.axes(model.split_at(start)[0])):
        return None
    tap = Tap("train", start)
    return feeds[tap].lengths if tap in feeds else data.lengths("train")


def _train(
    data: Data,
    phase: Part,
    start: str,
    feeds: Mapping[Tap, Features],
    known: np.ndarray | None,
    cells: Cells | None,
    epoch: int,
) -> Any:
    """Returns the batches of an epoch: cached features if there are any, else pictures."""
    view = epoch % phase.views if phase.views else epoch
    tap = Tap("train", start, phase.augment, view if phase.augment else 0)
    order = data.order("train", epoch, known)
    if tap in feeds:
        batches = feeds[tap].batches(order)
    else:
        batches = data.shuffled("train", epoch, phase.augment, view, known)
    return cells.beside(batches, data, "train", order) if cells else batches


def _in_order(
    data: Data,
    split: str,
    start: str,
    feeds: Mapping[Tap, Features],
    cells: Cells | None = None,
) -> Any:
    """Returns the batches of a split in file order, or None if there are none."""
    order, tap = np.arange(data.count(split)), Tap(split, start)
    if not len(order):
        return None
    batches = feeds[tap].batches(order) if tap in feeds else data.batches(split)
    return cells.beside(batches, data, split, order) if cells else batches


def _freezes(model: TransferModel, start: str) -> bool:
    """Returns whether there is a block before the first one that is trained."""
    return start != next(iter(model.blocks))


def _starts(model: TransferModel, phases: Sequence[Part]) -> list[str]:
    """Returns the first block that each phase or one before it trains."""
    order = [*model.blocks, HEAD]
    places = [order.index(next(iter(model.chosen(phase.unfreeze)), HEAD)) for phase in phases]
    return [order[min(places[: number + 1])] for number in range(len(places))]


def _trained(
    model: TransferModel,
    phase: Part,
    place: tuple[int, str, str],
    adapters: Adapters | None,
    balance: Balance | None,
) -> Any:
    """Returns `_behind_frozen`, the one of an earlier fit if nothing in its graph has changed.

    Args:
        model: The model, whose flags are set.
        phase: The phase.
        place: Its number, its start and the type of the cache. The latest of a number is kept
            alone: a search over other fields of the phase would fill the memory.
        adapters: Those of this fit alone.
        balance: That of this fit alone.
    """
    number, start, dtype = place
    size = sum(math.prod(each.shape) for each in model.full.trainable_variables)
    if adapters or balance or hardware.replicas() > 1 or size > _MOST:
        return _behind_frozen(model, phase, start, dtype, adapters, balance)
    key = (start, dtype, *model.chosen(phase.unfreeze), phase.batch_norm, phase.layer_decay)
    if model.traced.get(number, (None,))[0] != key:
        model.traced[number] = key, _behind_frozen(model, phase, start, dtype)
    return model.traced[number][1]


def _behind_frozen(
    model: TransferModel,
    phase: Part,
    start: str,
    dtype: str,
    adapters: Adapters | None = None,
    balance: Balance | None = None,
) -> keras.Model:
    """Returns the model to train from a block on, with all before it in inference mode.

    So are blocks behind it that the phase leaves as they are, such as those of a locked tower. A
    Functional model would pass ``training=True`` to them in any case, and their dropout would drop.
    """
    prefix, suffix = model.split_at(start)

    def activations(inputs: Any) -> Any:
        if not features.is_cached(inputs):
            inputs = lengths.shortened(model.backbone, inputs)
        return features.entrance(prefix, inputs, dtype)

    chosen = model.chosen(phase.unfreeze)
    still = [each for name, layers in model.blocks.items() if name not in chosen for each in layers]
    return trainable(suffix, activations, adapters, balance, still)


def _class_weights(data: Data) -> Any:
    """Returns n / (classes * count) per class with examples, as scikit-learn's ``balanced``."""
    counts = np.asarray(_class_counts(data), np.float64)
    weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return tf.constant(weights, tf.float32)


def _class_counts(data: Data) -> Any:
    """Returns how often each class occurs in training; only some tasks have to read the targets."""
    if type(data.task).counts is Task.counts:
        return data.info.class_counts["train"]
    counts = data.pairs("train").map(
        as_written(lambda inputs, target: data.task.counts(target, len(data.classes)))
    )
    return sum(counts.as_numpy_iterator())


def _weighted(train: Callable[[int], Any], task: Task, class_weights: Any) -> Callable[[int], Any]:
    def weighted(epoch: int) -> Any:
        return train(epoch).map(
            as_written(lambda inputs, target: (inputs, *task.weighted(target, class_weights)))
        )

    return weighted

"""The store: runs steps in order and reuses their products.

The key of a product is the digest of its step's code, config fields and input products. So a
product is reused until one of these changes. If a step runs again and writes equal bytes, the steps
after it do not run again.
"""

from __future__ import annotations

import functools
import os
import time
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pipeline import code, log, product
from pipeline.product import manifest
from pipeline.step import NotBlessed, Step, modules_named
from tlkeras import folders, hardware, spec
from tlkeras.spec import Spec

Say = Callable[[str], None]

PATIENCE = 60.0
"""Seconds that a worker waits for a product while no chief is at work."""


class Store:
    """A folder of products, ``<step>/<key>/``; several processes may use it at the same time."""

    def __init__(self, root: Path) -> None:
        """Takes the folder; the first product creates it."""
        self.root = root

    def make(
        self, step: Step, fields: Mapping[str, Any], inputs: Mapping[str, Path], say: Say = print
    ) -> Path:
        """Returns the product of a step for these config fields and products; runs it if needed."""
        content = _key_content(step, fields, inputs)
        out = self.root / step.name / product.digest(content)[:16]
        places = {name: self.root / name for name in step.places}
        return _product(step, out, content, {**fields, **places}, inputs, say, self.root)

    @staticmethod
    def verify(path: Path) -> list[str]:
        """Returns the names of a product's files that are changed, missing or new."""
        return product.differing(path)


def run(
    steps: Sequence[Step], config: Spec, store: Store, to: str | None = None, say: Say = print
) -> dict[str, Path]:
    """Returns the products of the steps by name, in order, up to and with `to`; runs missing ones.

    Raises:
        ValueError: Before anything runs: `to` is no step, or a parameter of a step is unknown.
            Before a step runs: its code has changed since.
    """
    width = max(len(step.name) for step in steps)
    products: dict[str, Path] = {}
    todo, options = chosen(steps, type(config), to), spec.fields(type(config))
    # What a later step reads of its code must be what this process has imported.
    code.reached(
        module
        for step in todo
        for module in _modules(step, {x: getattr(config, x) for x in step.read if x in options})
    )
    for step in todo:
        inputs = {name: products[name] for name in step.read if name in products}
        fields = {name: getattr(config, name) for name in step.read if name not in inputs}
        line = functools.partial("{:<{}}   {}".format, step.name, width)
        try:
            products[step.name] = store.make(
                step, fields, inputs, lambda text, line=line: say(line(text))
            )
        except NotBlessed as refusal:
            refusal.products = products
            raise
        if step.together and not hardware.is_chief():
            break
    return products


def chosen(steps: Sequence[Step], config: type[Spec], to: str | None) -> Sequence[Step]:
    """Returns the steps up to and with `to`, all if None.

    Raises:
        ValueError: `to` is no step, or a parameter of a step is unknown.
    """
    _check(steps, config, to)
    names = [step.name for step in steps]
    return steps[: names.index(to) + 1] if to else steps


def make(
    step: Step, out: Path, fields: Mapping[str, Any], inputs: Mapping[str, Path], say: Say = print
) -> Path:
    """Returns `out`, the product of a step in a folder of the caller's choice; runs it if needed.

    A place that is not among the fields is in the step's scratch folder. The log is that of the
    store of a product among the inputs, or else of the store that `out` or an input lies in, or
    else it begins beside `out`.

    Raises:
        ValueError: The folder holds something else, or is a mount point.
    """
    if out.is_mount():
        raise ValueError(
            f"{out} is a mount point, which no rename can replace; name a folder in it."
        )
    # The log above `out` may be of other work, and who forgets an example asks its own store.
    made = (path for path in inputs.values() if (path / product.MANIFEST).exists())
    root = log.above(*made, out, *inputs.values()) or out.absolute().parent
    return _product(step, out, _key_content(step, fields, inputs), fields, inputs, say, root)


def _check(steps: Sequence[Step], config: type[Spec], to: str | None) -> None:
    names = [step.name for step in steps]
    fields = spec.fields(config)
    if to is not None and to not in names:
        raise ValueError(f"{to!r} is not a product; {spec.nearest(to, names)}")
    names_of_places = {name for step in steps for name in step.places}
    if twice := [x for x in names if names.count(x) > 1 or x in fields or x in names_of_places]:
        raise ValueError(f"{twice[0]!r} names a product and something else.")
    for i, step in enumerate(steps):
        for name, annotation in step.parameters.items():
            is_product = name in names[:i] and _bare(annotation) is Path
            if name not in {*fields, *step.places} and not is_product:
                raise ValueError(
                    f"Step {step.name} has the parameter {name!r}, which is neither the product of "
                    "a step before it, annotated Path, nor a field of the config; "
                    f"{spec.nearest(name, [*names[:i], *fields])}"
                )


def _bare(annotation: Any) -> Any:
    arguments = typing.get_args(annotation)
    return arguments[0] if typing.get_origin(annotation) is Annotated else annotation


def _key_content(
    step: Step, fields: Mapping[str, Any], inputs: Mapping[str, Path]
) -> dict[str, Any]:
    """Returns the content of a product's key: all that the product depends on."""
    contents = {name: product.contents(path, _files) for name, path in inputs.items()}
    named = (module for path in inputs.values() for module in modules_named(path))
    behind = step.behind(**inputs)
    read = (type(each).__module__ for top, _ in behind.values() for each in top.specs())
    given = {
        name: (value, " ".join(each.fingerprint() for each in spec.inside(value)))
        for name, value in _keyed(step, fields).items()
    }
    return {
        "step": step.name,
        "code": code.digest({*_modules(step, fields), *named, *read}),
        "fields": {
            name: {"value": spec.text(value, everything=True), "fingerprint": fingerprint}
            for name, (value, fingerprint) in {**given, **behind}.items()
        },
        "inputs": contents,
    }


def _keyed(step: Step, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that are in the key of a step."""
    others = {*step.places, *step.runtime}
    return {name: value for name, value in fields.items() if name not in others}


def _modules(step: Step, fields: Mapping[str, Any]) -> set[str]:
    """Returns the module of a step and those of the specs in its fields."""
    tops = (top for value in _keyed(step, fields).values() for top in spec.inside(value))
    return {step.module, *(type(each).__module__ for top in tops for each in top.specs())}


def _files(folder: Path) -> Iterable[Path]:
    """Returns the files of a folder of data as it is read: those behind links, no hidden ones."""
    return folders.walk(folder, folder)


def _product(
    step: Step,
    out: Path,
    content: Mapping[str, Any],
    fields: Mapping[str, Any],
    inputs: Mapping[str, Path],
    say: Say,
    root: Path,
) -> Path:
    is_several = hardware.part()[1] > 1
    if is_several and hardware.is_chief() and not step.together:
        # It may be silent for long, as while it compares large files with their digests.
        with log.led(root), hardware.alone():
            return _product(step, out, content, fields, inputs, say, root)
    is_shared = step.together and is_several
    if not is_shared and _is_reused(step, out, content, say):
        return out
    partial = product.partial(out)
    places = {name: partial / product.SCRATCH / name for name in step.places}
    values = {**places, **fields, **inputs}
    if is_shared:
        texts = (f"{name}={each['value']}" for name, each in content["fields"].items())
        hardware.meet(f"{step.name}, {', '.join(texts)}, key {product.digest(content)[:16]}")
    if not hardware.is_chief():
        if not is_shared:
            _await(step, out, content, say, root)
        elif hardware.gathered(0)[0]:
            say("reused")
        else:
            step.run(partial, **values)
            say("done, the chief writes it")
        return out
    with log.shared(root, say), product.locked(out, say):
        # Another process may have written it while this one waited.
        is_reused = _is_reused(step, out, content, say)
        # The chief tells the other workers whether they run a shared step.
        if is_shared:
            hardware.gathered(int(is_reused))
        if is_reused:
            return out
        if damaged := _damaged(step, out):
            say(f"damaged ({', '.join(damaged)} in {out}), so it runs again")
        log.require(root)
        with product.appearing(out, content, inputs, functools.partial(_announce, root, out)):
            step.run(partial, **values)
    say(f"{manifest(out)['seconds']:.1f} s")
    return out


def _announce(root: Path, out: Path, work: Path) -> None:
    """Writes into the log which product appears now: so no product is there without a line."""
    made = manifest(work)
    log.append(
        root,
        made={
            "path": os.path.relpath(out.resolve(), root.resolve()),
            **{name: made[name] for name in ("step", "key", "digest")},
            "manifest": product.digest(made),
        },
    )


def _is_reused(step: Step, out: Path, content: Mapping[str, Any], say: Say) -> bool:
    """Returns whether the product is there and intact; raises if something else is there."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / product.MANIFEST).exists() or manifest(out)["key"] != product.digest(content):
        raise ValueError(f"{out} holds something else; remove it or choose another folder.")
    if step.always or _damaged(step, out):
        return False
    say("reused")
    return True


def _damaged(step: Step, out: Path) -> list[str]:
    """Returns the files of a product that differ from its manifest; only the chief checks them.

    A step with ``always`` runs anyway, so its product is not checked.
    """
    is_checked = (out / product.MANIFEST).exists() and not step.always
    return product.differing(out) if is_checked and hardware.is_chief() else []


def _await(step: Step, out: Path, content: Mapping[str, Any], say: Say, root: Path) -> None:
    """Waits until the chief has written a product."""
    say("waits for the chief")
    end = time.monotonic() + PATIENCE
    while not _is_reused(step, out, content, say):
        if log.is_led(root):
            end = time.monotonic() + PATIENCE
        elif time.monotonic() > end:
            raise ValueError(
                f"The chief does not write {step.name}: for {PATIENCE:.0f} s it has not been at "
                f"work in {root}. Do all workers share this folder? Read the chief's error, then "
                "start all workers again."
            )
        time.sleep(0.2)

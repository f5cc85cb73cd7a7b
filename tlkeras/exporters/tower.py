"""Tower: one network of a pair, in the form of another exporter."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

from tlkeras.exporter import UNSTATED, Exporter, existing
from tlkeras.frameworks import as_written
from tlkeras.model.one_tower import one_tower
from tlkeras.model.towers import PAIR

_ALONE = {"picture": "image", "text": "text"}
"""What each tower reads alone; in a pair, `PAIR` tells its key."""


class Tower(Exporter, name="tower"):
    """The export of one tower of a pair, in a folder ``picture`` or ``text``.

    The tower of pictures takes a picture and that of texts a text; both give rows of length 1, by
    the name of the tower. So pictures are searched on a server that holds their rows and the tower
    of texts, or the other way round. `to` is the form: ``tower(side='text', to=saved_model)``. Its
    rows are judged beside those that Keras gives for the other tower.
    """

    side: Literal["picture", "text"]
    to: Exporter

    def validate(self):
        expected = "saved_model, keras, tflite or onnx: a row is no answer that a page shows people"
        self.require(self.to.member != "browser", "to", expected)

    @property
    def tolerance(self):
        return self.to.tolerance

    @property
    def max_drop(self):
        return self.to.max_drop

    @property
    def serves(self):
        return (self.side,)

    def files(self):
        return tuple(f"{self.side}/{name}" for name in self.to.files())

    def fits(self, model):
        self.to.fits(one_tower(model, self.side))

    def write(self, model, samples, out, origin=UNSTATED):
        tower, folder = one_tower(model, self.side), existing(out) / self.side
        self.to.fits(tower)
        folder.mkdir(exist_ok=True)
        own = samples and samples.map(as_written(lambda inputs: inputs[PAIR[self.side]]))
        self.to.write(tower, own, folder, origin)

    def load(self, out):
        return self._of_pairs(self.to.load(out / self.side))

    def load_on(self, out, threads):
        return self._of_pairs(self.to.load_on(out / self.side, threads))

    def _of_pairs(self, predict: Any) -> Any:
        return lambda batch: predict(batch[PAIR[self.side]])

    def facts(self, out):
        return self.to.facts(out / self.side)

    def endpoints(self, out, kinds):
        key, own = PAIR[self.side], _ALONE[self.side]

        def entrance(call: Any) -> Any:
            def called(values: Mapping[str, Any]) -> dict[str, Any] | None:
                return call({own: values[key]})

            return called

        found = self.to.endpoints(out / self.side, {own: kinds[key]})
        return {name: entrance(call) for name, call in found.items()}

    def usage(self, backbone, task):
        tower, alone = backbone.towers().get(self.side), task.of_tower(self.side)
        if tower is None or alone is None:
            return []
        return [
            dataclasses.replace(
                each,
                file=f"{self.side}/{each.file}",
                code=each.code.replace(
                    json.dumps(each.file), json.dumps(f"{self.side}/{each.file}")
                ),
            )
            for each in self.to.usage(tower, alone)
        ]

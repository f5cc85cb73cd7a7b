"""Towers: a network of pictures and one of texts, side by side."""

from __future__ import annotations

from tlkeras.backbone import Backbone
from tlkeras.kinds.image import Image
from tlkeras.kinds.text import Text
from tlkeras.model import towers
from tlkeras.model.towers import PICTURE, TEXT


class Towers(Backbone, name="towers"):
    """Two networks that meet in the head alone: one reads ``image``, the other ``caption``.

    Blocks are those of `picture`, from ``picture_stem`` on, and then those of `text`. So the tower
    of pictures, where it is locked, runs once over the data. Features are ``picture`` and ``text``,
    the ``pooled`` ones of each, and ``pooled``, both joined.
    """

    block_pattern = r"^((?:picture|text)_stem)"

    picture: Backbone
    text: Backbone

    def validate(self):
        for field, backbone, reads in (
            (PICTURE, self.picture, {"image": Image()}),
            (TEXT, self.text, {"text": Text()}),
        ):
            (key,) = reads
            self.require(dict(backbone.raw()) == reads, field, f"a network that reads one {key}")

    def build(self):
        pairs = {tower: (towers.PAIR[tower], backbone) for tower, backbone in self.towers().items()}
        return towers.joined(pairs, self.name)

    def raw(self):
        return {"image": Image(), "caption": Text()}

    def preprocess(self, example):
        return {
            "image": self.picture.preprocess(example),
            "caption": self.text.preprocess({"text": example["caption"]}),
        }

    def towers(self):
        return {PICTURE: self.picture, TEXT: self.text}

    def blocks(self, network):
        return towers.blocks(self.towers(), network)

    @property
    def most_pieces(self):
        return self.text.most_pieces

    def exceeds(self, examples):
        return self.text.exceeds({"text": examples["caption"]})

    @property
    def tokenizer(self):
        return self.text.tokenizer

"""Block flags: which blocks of a network are trainable, and with them their batch norms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence

from tlkeras.frameworks import keras

# Keras's MobileNets keep 0.999 of a norm's statistics at every step. After 1,000 steps a third is
# still of the old weights, and the network is far worse in inference than in training.
_MOMENTUM = 0.9


def live(blocks: Mapping[str, list[keras.Layer]]) -> MutableMapping[str, bool]:
    """Returns a view of blocks: whether each has a trainable variable; see `set_trainable`."""
    return _Live(blocks)


def set_trainable(layers: Sequence[keras.Layer], value: bool, *, batch_norm: bool = False) -> None:
    """Sets the flag of layers; batch norms, also inside of them, stay frozen unless `batch_norm`.

    Those that train forget at least a tenth of their statistics at every step.
    """
    for layer in layers:
        assign(layer, value)
        for part in layer._flatten_layers():
            if isinstance(part, keras.layers.BatchNormalization):
                assign(part, value and batch_norm)
                if part.trainable:
                    part.momentum = min(part.momentum, _MOMENTUM)


def assign(layer: keras.Layer, value: bool) -> None:
    """Sets the flag of a layer and of its parts.

    A layer that Keras has read was frozen before it had parts, and TensorFlow skips an assignment
    that changes nothing.
    """
    layer.trainable = not value
    layer.trainable = value


class _Live(MutableMapping[str, bool]):
    """The view that `live` returns."""

    def __init__(self, blocks: Mapping[str, list[keras.Layer]]) -> None:
        self._blocks = blocks

    def __getitem__(self, name: str) -> bool:
        return any(layer.trainable_variables for layer in self._blocks[name])

    def __setitem__(self, name: str, value: bool) -> None:
        set_trainable(self._blocks[name], value)

    def __delitem__(self, name: str) -> None:
        raise TypeError("A model cannot lose a block.")

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def __repr__(self) -> str:
        return repr(dict(self))

"""The models that are compiled and fitted; imported late, because their classes need Keras.

Keras 3 cannot fit under a strategy of several workers by itself
(https://github.com/keras-team/keras/issues/20585), and of a batch that is split unevenly its mean
of means is wrong. So the model of several replicas runs the steps itself: each replica takes its
rows of a batch, its loss counts by the number of them, and what one device draws or averages over a
batch (dropout, the statistics of batch norms, the norm of the gradient) is drawn or averaged over
the whole batch here, too. Only public methods of `keras.Model` are overridden.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tlkeras import hardware
from tlkeras.frameworks import as_written, keras, tf
from tlkeras.model import folding


class Trained(keras.Model):
    """A network behind what makes its inputs."""

    def __init__(self, network: keras.Model, before: Callable[[Any], Any] | None) -> None:
        """Takes what `trainable` takes."""
        # Keras scales the loss of float16 if the model that is compiled has that policy.
        policies = {each.dtype_policy.name for each in network.layers}
        super().__init__(dtype="mixed_float16" if "mixed_float16" in policies else None)
        self.network = network
        self._before = before or (lambda inputs: inputs)
        self.built = True

    def compile(self, *arguments: Any, **options: Any) -> None:
        # XLA, which Keras takes where it finds a GPU, compiles anew for every number of rows
        # that are kept of a batch, and draws other numbers in dropout.
        super().compile(*arguments, jit_compile=False, **options)

    def save(self, *arguments: Any, **options: Any) -> None:
        raise ValueError(
            "What is trained is not the whole model, so no callback can save it: use "
            "ModelCheckpoint(…, save_weights_only=True), or `TransferModel.save` afterwards."
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return folding.run(self.network, self._before(inputs), training=training)


class Replicated(Trained):
    """The same, every replica with its rows of each batch.

    An element of the data is ``((inputs, targets, weights), rows)``: so many rows count. Those
    after them fill it up, to one where there is none, and to the full size where shapes have to
    be static; only the statistics of trainable batch norms see them.
    """

    def __init__(self, network: keras.Model, before: Callable[[Any], Any] | None) -> None:
        """Takes what `trainable` takes; call it outside of the strategy's scope."""
        # Outside of the strategy's scope, in which Keras would meddle with the data.
        super().__init__(network, before)
        self._strategy = hardware.current()
        self.is_static = isinstance(self._strategy, tf.distribute.TPUStrategy)

    @property
    def distribute_strategy(self) -> Any:
        return self._strategy

    def compile(
        self, optimizer: Any, loss: Any, metrics: Any, steps_per_execution: int = 1
    ) -> None:
        # One step at a time in any case: Keras cannot run several in one call on replicas.
        del steps_per_execution
        # Weighted, by 0 for rows that fill up.
        super().compile(optimizer, loss, weighted_metrics=metrics)

    def fit(self, x: Any, validation_data: Any = None, **options: Any) -> Any:
        batches, steps = self._dealt(x)
        if validation_data is not None:
            validation_data, options["validation_steps"] = self._dealt(validation_data)
        return super().fit(
            batches, steps_per_epoch=steps, validation_data=validation_data, **options
        )

    def evaluate(self, x: Any, **options: Any) -> Any:
        if not isinstance(x, tf.distribute.DistributedDataset):  # `fit` has dealt it already.
            x, options["steps"] = self._dealt(x)
        return super().evaluate(x, **options)

    def predict(self, x: Any, **options: Any) -> Any:
        x, options["steps"] = self._dealt(x)
        outputs, counting = super().predict(x, **options)
        return keras.tree.map_structure(lambda output: output[counting == 1], outputs)

    def make_train_function(self, force: bool = False) -> None:
        if force or self.train_function is None:
            self.train_function = self._on_every_replica(self.train_step)

    def make_test_function(self, force: bool = False) -> None:
        if force or self.test_function is None:
            self.test_function = self._on_every_replica(self.test_step)

    def train_step(self, data: Any) -> dict[str, Any]:
        batch, rows = data
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        total = self._place(x, rows)
        with tf.GradientTape() as tape:
            outputs = self(x, training=True)
            summed = self._summed_loss(x, y, outputs, weights, rows, training=True)
            # Added up over the replicas, as the optimizer does, it is the mean of the batch.
            loss = self.optimizer.scale_loss(tf.math.divide_no_nan(summed, total))
        variables = self.trainable_variables
        gradients = self._judged(tape.gradient(loss, variables))
        self.optimizer.apply(gradients, variables)
        return self._measured(x, y, outputs, summed, rows)

    def test_step(self, data: Any) -> dict[str, Any]:
        batch, rows = data
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        outputs = self(x, training=False)
        summed = self._summed_loss(x, y, outputs, weights, rows, training=False)
        return self._measured(x, y, outputs, summed, rows)

    def predict_step(self, data: Any) -> Any:
        batch, rows = data
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        return self(x, training=False), _counting(x, rows)

    def _on_every_replica(self, step: Callable[[Any], dict[str, Any]]) -> Any:
        """Returns the function of an iterator that runs a step on every replica."""

        def run(data: Any) -> dict[str, Any]:
            logs = step(data)
            stacked = tf.stack([tf.cast(value, tf.float32) for value in logs.values()])
            # One exchange for all; Keras has the exact values at the end of the epoch.
            means = tf.distribute.get_replica_context().all_reduce("MEAN", stacked)
            return dict(zip(logs, tf.unstack(means), strict=True))

        @tf.function(reduce_retracing=True, autograph=False)
        def steps(iterator: Any) -> dict[str, Any]:
            with _over_the_batch(self.network):
                logs = self._strategy.run(run, args=(next(iterator),))
            return {
                name: self._strategy.experimental_local_results(value)[0]
                for name, value in logs.items()
            }

        return steps

    def _place(self, x: Any, rows: Any) -> Any:
        """Returns how many rows of the whole batch count; notes where this replica's begin."""
        context = tf.distribute.get_replica_context()
        here, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
        own = tf.cast(rows, tf.float32) * tf.one_hot(here, count)
        sizes = context.all_reduce("SUM", own)
        total = tf.reduce_sum(sizes)
        if self.is_static:
            size = keras.tree.flatten(x)[0].shape[0]
            _here.start, _here.rows = here * size, count * size
        else:
            starts = tf.cast(tf.cumsum(sizes, exclusive=True), tf.int32)
            _here.start, _here.rows = starts[here], tf.cast(total, tf.int32)
        return total

    def _summed_loss(
        self, x: Any, y: Any, outputs: Any, weights: Any, rows: Any, training: bool
    ) -> Any:
        """Returns the loss of this replica's rows, added up."""
        counting = _counting(x, rows)
        weights = counting if weights is None else weights * counting
        mean: Any = self.compute_loss(x, y, outputs, weights, training)
        # What Keras gives has been divided by the number of replicas.
        size = tf.cast(tf.shape(counting)[0] * self._strategy.num_replicas_in_sync, mean.dtype)
        return mean * size

    def _measured(self, x: Any, y: Any, outputs: Any, summed: Any, rows: Any) -> Any:
        """Returns the logs after loss and metrics have been updated."""
        number = tf.cast(rows, summed.dtype)
        tracker = next(metric for metric in self.metrics if metric.name == "loss")
        tracker.update_state(tf.math.divide_no_nan(summed, number), sample_weight=number)
        return self.compute_metrics(x, y, outputs, _counting(x, rows))

    def _judged(self, gradients: list[Any]) -> list[Any]:
        """Returns gradients that the optimizer may judge by what it sees on one replica.

        Clipping, and the search for numbers that are not finite, need the sum over all
        replicas; so they get an equal share of it each.
        """
        optimizer, limit = self.optimizer, 1.0
        scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if scales:
            limit, optimizer = optimizer.scale_loss(limit), optimizer.inner_optimizer
        if not scales and not optimizer.global_clipnorm:
            return gradients
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce("SUM", gradients)
        if optimizer.global_clipnorm:
            limit = limit * optimizer.global_clipnorm
            gradients, _ = tf.clip_by_global_norm(gradients, limit)
        return [gradient / context.num_replicas_in_sync for gradient in gradients]

    def _dealt(self, dataset: Any) -> tuple[Any, int]:
        """Returns a worker's batches, each dealt to its replicas, and how many there are.

        A replica that has none left, while others have, gets batches in which no row counts.
        There is no end to them: else the workers would ask each other before every step whether
        there is one more.
        """
        _, workers = hardware.part()
        local = self._strategy.num_replicas_in_sync // workers
        own = int(dataset.cardinality())
        if own < 0:
            raise ValueError(
                "The number of batches is not known; end the data with assert_cardinality."
            )
        size = None
        if self.is_static:
            first = keras.tree.flatten(next(iter(dataset)))[0] if own else []
            size = max(hardware.gathered(-(-len(first) // local)))
        pieces = dataset.flat_map(lambda *batch: _pieces(batch, local, size))
        zeros = keras.tree.map_structure(_zeros, pieces.element_spec)
        endless = pieces.concatenate(tf.data.Dataset.from_tensors(zeros).repeat())
        dealt = self._strategy.distribute_datasets_from_function(lambda _: endless)
        return dealt, max(hardware.gathered(own))


def _counting(x: Any, rows: Any) -> Any:
    """Returns float32 [b]: 1 for the first `rows` rows, which count, and 0 for the others."""
    return tf.sequence_mask(rows, tf.shape(keras.tree.flatten(x)[0])[0], tf.float32)


def _pieces(batch: tuple[Any, ...], count: int, size: int | None) -> Any:
    """Returns a batch as a dataset of `count` pieces, their rows in order, ``(piece, rows)``.

    Each is filled up to `size` rows, or to one: a convolution of none is wrong in TensorFlow 2.21.
    """
    total = tf.shape(keras.tree.flatten(batch)[0])[0]

    def piece(place: Any) -> tuple[Any, Any]:
        place = tf.cast(place, tf.int32)
        first, last = place * total // count, (place + 1) * total // count

        def cut(tensor: Any) -> Any:
            part = tensor[first:last]
            missing = tf.maximum((size or 1) - (last - first), 0)
            ends = [[0, missing], *([0, 0] for _ in part.shape[1:])]
            return tf.ensure_shape(tf.pad(part, ends), [size, *part.shape[1:]])

        return keras.tree.map_structure(cut, batch), last - first

    return tf.data.Dataset.range(count).map(as_written(piece))


def _zeros(spec: Any) -> Any:
    """Returns a tensor of zeros like this, of size 1 where its size is not fixed."""
    return tf.zeros([dimension or 1 for dimension in spec.shape], spec.dtype)


_here = threading.local()
"""``start`` and ``rows``: the number of a replica's first row in the batch, and the rows of all.

Every replica is traced in a thread of its own, some of them at once.
"""


@contextlib.contextmanager
def _over_the_batch(network: keras.Model) -> Iterator[None]:
    """Lets dropout and trainable batch norms see the whole batch while a step is traced.

    So they do what they do on one device. Of layers inside of layers that are no models, and of
    others that draw random numbers, every replica draws the same for its rows.
    """
    with contextlib.ExitStack() as restored:
        for layer in _layers(network):
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                restored.callback(setattr, layer, "synchronized", layer.synchronized)
                layer.synchronized = True
            elif type(layer) is keras.layers.Dropout:
                restored.callback(delattr, layer, "call")
                layer.call = functools.partial(_dropped, layer)
        yield


def _layers(network: keras.Model) -> Iterator[keras.Layer]:
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _dropped(layer: keras.layers.Dropout, inputs: Any, training: bool = False) -> Any:
    """Returns the inputs after dropout, as if it had been drawn for the whole batch."""
    if not training or not layer.rate:
        return inputs
    found = [*tf.unstack(tf.shape(inputs))]
    noise = layer.noise_shape or [None] * len(found)
    shape = [known or size for known, size in zip(noise, [_here.rows, *found[1:]], strict=True)]
    ones = tf.ones(shape, inputs.dtype)
    kept = keras.random.dropout(ones, layer.rate, seed=layer.seed_generator)
    return inputs * (kept if noise[0] else kept[_here.start : _here.start + found[0]])

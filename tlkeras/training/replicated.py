"""The models of `trainable`; imported late, because their classes need Keras.

Keras 3 cannot fit under a strategy of several workers by itself
(https://github.com/keras-team/keras/issues/20585), and its mean of means is wrong for an uneven
split of a batch. So the model of several replicas runs the steps itself. Each replica takes its
rows of a batch, and its loss counts by their number. Dropout, the statistics of batch norms and the
norm of the gradient still see the whole batch, as on one device. Only public methods of
`keras.Model` are overridden.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tlkeras import hardware
from tlkeras.frameworks import as_written, keras, tf
from tlkeras.model import folding, lengths
from tlkeras.training.adapters import Adapters
from tlkeras.training.balance import Balance

_MIXED = ("mixed_float16", "mixed_bfloat16")


class Trained(keras.Model):
    """A network after a function that computes its inputs."""

    def __init__(
        self,
        network: keras.Model,
        before: Callable[[Any], Any] | None,
        adapters: Adapters | None = None,
        balance: Balance | None = None,
        frozen: Iterable[keras.Layer] = (),
    ) -> None:
        """Takes the arguments of `trainable`."""
        # Keras scales the loss of float16 only if the compiled model has that policy.
        super().__init__(dtype=_policy(network))
        self.network = network
        self.before = before or (lambda inputs: inputs)
        self._applied = adapters.applied if adapters else contextlib.nullcontext
        # Keras tracks them by this attribute.
        self.adapters = adapters.variables if adapters else []
        self.factors = balance.variables if balance else []
        self.balance = balance
        self._frozen = frozenset(map(id, frozen))  # Keras would track the layers themselves.
        self.built = True
        self._compiled_for = ""

    def start(
        self, optimizer: Any, loss: Any, metrics: Any, steps_per_execution: int, **options: Any
    ) -> None:
        """Compiles the model; if that changes no constant of its graph, it only starts anew.

        The rate is a variable, or those of its plan are. Loss and metrics are always the same.
        """
        config = {**optimizer.get_config(), "name": "", "steps": steps_per_execution}
        if is_number := isinstance(rate := config["learning_rate"], float):
            config["learning_rate"] = "a variable"
        wanted = json.dumps([type(optimizer).__name__, config])
        if wanted != self._compiled_for or self.dtype_policy.name == "mixed_float16":
            self.compile(
                optimizer, loss, metrics=metrics, steps_per_execution=steps_per_execution, **options
            )
            self._compiled_for = wanted
            return
        # So begin all of the optimizers; only that of float16 has a scale that is not 0.
        for variable in self.optimizer.variables:
            variable.assign(keras.ops.zeros(variable.shape, variable.dtype))
        if is_number:
            self.optimizer.learning_rate = rate
        else:
            self.optimizer._learning_rate.become(optimizer._learning_rate)

    @functools.cached_property
    def summarized(self) -> Any:
        """A function of the inputs of a batch that gives what the network gets.

        Texts come as long as the longest of their batch; here all are whole.
        """
        return tf.function(
            lambda inputs: lengths.restored(self.before(inputs), self.network.input),
            autograph=False,
            reduce_retracing=True,
        )

    def compile(self, *arguments: Any, **options: Any) -> None:
        # Keras uses XLA on a GPU. It compiles anew for every number of cached rows in a batch, and
        # draws other numbers in dropout.
        super().compile(*arguments, jit_compile=False, **options)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        if self.balance:  # The weights of a batch are the numbers of cells.
            weigh = self.balance.weights if training else lambda *batch: None
            sample_weight = weigh(sample_weight, y, y_pred)
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def save(self, *arguments: Any, **options: Any) -> None:
        raise ValueError(
            "The trained model is only a part of the whole, so no callback can save it: use "
            "ModelCheckpoint(…, save_weights_only=True), or `TransferModel.save` afterwards."
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        with self._applied(self.network.non_trainable_variables):
            entered = self.before(inputs)
            outputs = folding.run(self.network, entered, training=training, frozen=self._frozen)
        return lengths.restored(outputs, self.network.output)


def _policy(network: keras.Model) -> str:
    """Returns the mixed precision of a network's layers, or float32.

    Inputs and nested networks have that of all Keras when they were made, in which nothing runs.
    """
    layers = network._flatten_layers(include_self=False)
    others = (keras.layers.InputLayer, keras.Model)
    policies = {each.dtype_policy.name for each in layers if not isinstance(each, others)}
    return next((each for each in _MIXED if each in policies), "float32")


class Replicated(Trained):
    """A network on several replicas, each with its rows of every batch.

    An element of the data is ``((inputs, targets, weights), rows)``: only the first `rows` count.
    The others are padding: to one row if there is none, and to the full size for static shapes.
    Only the statistics of trainable batch norms see the padding.
    """

    def __init__(
        self,
        network: keras.Model,
        before: Callable[[Any], Any] | None,
        adapters: Adapters | None = None,
        frozen: Iterable[keras.Layer] = (),
    ) -> None:
        """Takes the arguments of `trainable`; call it outside of the strategy's scope."""
        # Inside the strategy's scope Keras would redistribute the data.
        super().__init__(network, before, adapters, frozen=frozen)
        self._strategy = hardware.current()
        self.is_static = isinstance(self._strategy, tf.distribute.TPUStrategy)

    @property
    def distribute_strategy(self) -> Any:
        return self._strategy

    def compile(
        self, optimizer: Any, loss: Any, metrics: Any, steps_per_execution: int = 1
    ) -> None:
        # Always one step at a time: Keras cannot run several in one call on replicas.
        del steps_per_execution
        # The weight of padding is 0.
        super().compile(optimizer, loss, weighted_metrics=metrics)
        # The optimizer would clip the gradients of each replica by their own norm.
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        self._clip, optimizer.global_clipnorm = optimizer.global_clipnorm, None

    def fit(self, x: Any, validation_data: Any = None, **options: Any) -> Any:
        batches, steps = self._dealt(x)
        if validation_data is not None:
            validation_data, options["validation_steps"] = self._dealt(validation_data)
        return super().fit(
            batches, steps_per_epoch=steps, validation_data=validation_data, **options
        )

    def evaluate(self, x: Any, **options: Any) -> Any:
        if not isinstance(x, tf.distribute.DistributedDataset):  # `fit` passes dealt data.
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
            # The optimizer sums it over the replicas: the sum is the mean of the batch.
            loss = self.optimizer.scale_loss(tf.math.divide_no_nan(summed, total))
        variables = self.trainable_variables
        gradients = self._clipped(tape.gradient(loss, variables))
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
        """Returns a function of an iterator that runs a step on every replica."""

        def run(data: Any) -> dict[str, Any]:
            logs = step(data)
            rows = tf.cast(self._mean_loss.count, tf.float32)
            own = [rows, *(rows * tf.cast(value, tf.float32) for value in logs.values())]
            # One exchange for all logs: means over the rows of all replicas since the metrics began
            # anew. Keras computes the exact values at the end of the epoch.
            summed = tf.distribute.get_replica_context().all_reduce("SUM", tf.stack(own))
            return dict(zip(logs, tf.unstack(summed[1:] / summed[0]), strict=True))

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
        """Returns the number of rows of the whole batch; notes the start of this replica's rows."""
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
        """Returns the sum of the loss over this replica's rows."""
        counting = _counting(x, rows)
        weights = counting if weights is None else weights * counting
        mean: Any = self.compute_loss(x, y, outputs, weights, training)
        # Keras divides its loss by the number of replicas.
        size = tf.cast(tf.shape(counting)[0] * self._strategy.num_replicas_in_sync, mean.dtype)
        return mean * size

    def _measured(self, x: Any, y: Any, outputs: Any, summed: Any, rows: Any) -> Any:
        """Updates loss and metrics and returns the logs."""
        number = tf.cast(rows, summed.dtype)
        self._mean_loss.update_state(tf.math.divide_no_nan(summed, number), sample_weight=number)
        return self.compute_metrics(x, y, outputs, _counting(x, rows))

    @property
    def _mean_loss(self) -> Any:
        """The mean of the loss over this replica's rows."""
        return next(metric for metric in self.metrics if metric.name == "loss")

    def _clipped(self, gradients: list[Any]) -> list[Any]:
        """Returns this replica's gradients, after the clip of their sum over all replicas.

        If one of any replica is not finite, none is, so that all replicas leave out the step.
        """
        scales = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        if not scales and not self._clip:
            return gradients
        # Those of embeddings are `tf.IndexedSlices`; what no loss depends on has none.
        present = [gradient for gradient in gradients if gradient is not None]
        norm = tf.linalg.global_norm(tf.distribute.get_replica_context().all_reduce("SUM", present))
        factor = 1.0 + (norm - norm)
        if self._clip:
            limit = self.optimizer.scale_loss(self._clip)
            factor *= limit / tf.maximum(norm, limit)
        return [each if each is None else tf.math.scalar_mul(factor, each) for each in gradients]

    def _dealt(self, dataset: Any) -> tuple[Any, int]:
        """Returns a worker's batches, each dealt to its replicas, and their number.

        A replica without any left, while others have some, gets batches of padding only. The data
        set is endless: else the workers would ask each other before every step for one more.
        """
        _, workers = hardware.part()
        local = self._strategy.num_replicas_in_sync // workers
        own = int(dataset.cardinality())
        if own < 0:
            raise ValueError(
                "The number of batches is unknown; apply assert_cardinality to the data."
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
    """Returns float32 [b]: 1 for the first `rows` rows, and 0 for the padding."""
    return tf.sequence_mask(rows, tf.shape(keras.tree.flatten(x)[0])[0], tf.float32)


def _pieces(batch: tuple[Any, ...], count: int, size: int | None) -> Any:
    """Returns a batch as a dataset of `count` pieces, their rows in order, ``(piece, rows)``.

    Each is padded to `size` rows, or to one: TensorFlow 2.21 computes convolutions of none wrongly.
    """
    total = tf.shape(keras.tree.flatten(batch)[0])[0]

    def piece(place: Any) -> tuple[Any, Any]:
        place = tf.cast(place, tf.int32)
        first, last = place * total // count, (place + 1) * total // count

        def padded(tensor: Any) -> Any:
            part = tensor[first:last]
            missing = tf.maximum((size or 1) - (last - first), 0)
            ends = [[0, missing], *([0, 0] for _ in part.shape[1:])]
            return tf.ensure_shape(tf.pad(part, ends), [size, *part.shape[1:]])

        return keras.tree.map_structure(padded, batch), last - first

    return tf.data.Dataset.range(count).map(as_written(piece))


def _zeros(spec: Any) -> Any:
    """Returns zeros of this spec, with size 1 for unknown dimensions."""
    return tf.zeros([dimension or 1 for dimension in spec.shape], spec.dtype)


_here = threading.local()
"""``start`` and ``rows``: a replica's first row in the batch, and the rows of the whole batch.

Every replica has its own thread for the trace; some run at once.
"""


@contextlib.contextmanager
def _over_the_batch(network: keras.Model) -> Iterator[None]:
    """Lets dropout and trainable batch norms see the whole batch in the trace of a step.

    So they compute the same as on one device. This misses layers inside of layers that are no
    models, and other random layers: there every replica draws the same numbers for its rows.
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
    """Returns the inputs after dropout, with the mask of the whole batch."""
    if not training or not layer.rate:
        return inputs
    sizes = [*tf.unstack(tf.shape(inputs))]
    noise = layer.noise_shape or [None] * len(sizes)
    shape = [known or size for known, size in zip(noise, [_here.rows, *sizes[1:]], strict=True)]
    ones = tf.ones(shape, inputs.dtype)
    mask = keras.random.dropout(ones, layer.rate, seed=layer.seed_generator)
    return inputs * (mask if noise[0] else mask[_here.start : _here.start + sizes[0]])

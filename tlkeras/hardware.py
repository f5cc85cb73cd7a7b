"""Hardware: the `tf.distribute` strategy of training, chosen once per process.

The strategy does not change the result: up to rounding, batches split over its replicas give the
weights of one device. `used` enters a strategy by name. Create layers, optimizers and metrics under
`scope`, but fit, save and load outside of it. If one worker alone reads or writes inside a scope,
the workers get out of step.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import faulthandler
import functools
import json
import os
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tlkeras import spec
from tlkeras.frameworks import tf

NAMES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
"""The names of the strategies."""

TIMEOUT = 600.0
"""Seconds that workers wait for each other at the start."""

# NVIDIA's driver lists the GPUs here, also those that TensorFlow cannot use.
_NVIDIA = Path("/proc/driver/nvidia/gpus")

_EXAMPLE = json.dumps(
    {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}
)


def strategy(name: str, timeout: float = TIMEOUT) -> Any:
    """Returns a new `tf.distribute.Strategy`.

    ``one_device`` is TensorFlow's default: the first accelerator, or the processor. ``mirrored``:
    all accelerators of this machine. ``multi_worker``: those of all machines that the environment
    variable ``TF_CONFIG`` names, one process on each; waits for all of them. ``tpu``: the TPU that
    ``TPU_NAME`` names, or the local one. ``auto``: the one that fits the machine.

    Raises:
        ValueError: Hardware or a setting is missing, or workers do not answer.
    """
    makers: Mapping[str, Callable[[], Any]] = {
        "one_device": lambda: tf.distribute.get_strategy(),
        "mirrored": _mirrored,
        "multi_worker": lambda: _multi_worker(timeout),
        "tpu": _tpu,
    }
    _check(name)
    name = _resolved(name)
    if name == "auto":
        name = "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "one_device"
    return makers[name]()


@contextlib.contextmanager
def used(name: str, timeout: float = TIMEOUT) -> Iterator[None]:
    """Makes a strategy the current one.

    ``one_device`` and ``mirrored`` are created on first use. ``tpu`` and ``multi_worker`` are
    created at once, because they must precede every other operation of TensorFlow.

    Raises:
        ValueError: Another worker was lost.
    """
    global _chosen
    _check(name)
    name, before, index, count = _resolved(name), _chosen, 0, 1
    if name == "multi_worker":
        index, count = _place()
    _chosen = _Chosen(functools.cache(functools.partial(strategy, name, timeout)), index, count)
    try:
        if name == "tpu" or count > 1:
            current()
        with _explained() if count > 1 else contextlib.nullcontext():
            yield
    finally:
        _chosen = before


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Makes this process compute by itself on one device: other workers take no part."""
    global _chosen
    before = _chosen
    _chosen = _Chosen(lambda: tf.distribute.get_strategy())
    try:
        yield
    finally:
        _chosen = before


def current() -> Any:
    """Returns the strategy that `used` entered, or TensorFlow's default."""
    return _chosen.make()


def scope() -> contextlib.AbstractContextManager[Any]:
    """Returns the scope for the creation of variables that live on every replica."""
    return current().scope() if replicas() > 1 else contextlib.nullcontext()


def replicas() -> int:
    """Returns the number of model copies that train together."""
    return current().num_replicas_in_sync


def part() -> tuple[int, int]:
    """Returns ``(index, count)`` of this worker; it feeds that share of each batch."""
    return _chosen.index, _chosen.count


def is_chief() -> bool:
    """Returns whether this process writes; of several workers, only the first does."""
    return _chosen.index == 0


def devices() -> str:
    """Returns the devices of a fit as text, with a hint at a GPU that TensorFlow cannot use."""
    kinds = collections.Counter(device.device_type for device in tf.config.list_logical_devices())
    local = replicas() // _chosen.count
    accelerators = [f"{min(kinds[kind], local)} {kind}" for kind in ("GPU", "TPU") if kinds[kind]]
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if not accelerators and _NVIDIA.is_dir() and not is_hidden:
        return (
            "the processor, though this machine has a GPU: TensorFlow finds no CUDA libraries. "
            "pip install 'tensorflow[and-cuda]' brings them"
        )
    return ", ".join(accelerators) or "the processor"


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Multiplies float32 at full precision; newer GPUs otherwise round to TF32, by up to 1e-3."""
    precision = tf.config.experimental
    before = precision.tensor_float_32_execution_enabled()
    precision.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        precision.enable_tensor_float_32_execution(before)


def gathered(value: int) -> list[int]:
    """Returns the values of all workers, in order; waits until every worker calls it."""
    if _chosen.count == 1:
        return [value]
    values = _gathering(current())(tf.constant([value], tf.int64)).numpy().tolist()
    return values[:: len(values) // _chosen.count]


def meet(about: str) -> None:
    """Waits until all workers call it with the same text.

    Raises:
        ValueError: The texts differ, so the workers run different things.
    """
    if len(set(gathered(zlib.crc32(about.encode())))) > 1:
        raise ValueError(
            f"The workers do not agree; worker {_chosen.index} is at: {about}. Start all workers "
            "with the same command line, the same code and the same files."
        )


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """The current strategy's constructor, and this worker's index and count."""

    make: Callable[[], Any]
    index: int = 0
    count: int = 1


_chosen = _Chosen(lambda: tf.distribute.get_strategy())


@functools.cache
def _gathering(strategy: Any) -> Any:
    """Returns the function behind `gathered`, traced once."""

    @tf.function(autograph=False)
    def gather(value: Any) -> Any:
        return strategy.gather(strategy.run(lambda: value), axis=0)

    return gather


def _check(name: str) -> None:
    if name not in NAMES:
        raise ValueError(f"{name!r} is not a strategy; {spec.nearest(name, NAMES)}")


def _resolved(name: str) -> str:
    """Returns the name of the strategy; the environment decides for ``auto``, if it can."""
    if name == "auto" and len(_workers()) > 1:
        return "multi_worker"
    return "tpu" if name == "auto" and "TPU_NAME" in os.environ else name


def _mirrored() -> Any:
    mirrored = tf.distribute.MirroredStrategy()
    # A single device has nothing to mirror.
    return mirrored if mirrored.num_replicas_in_sync > 1 else tf.distribute.get_strategy()


def _tpu() -> Any:
    name = os.environ.get("TPU_NAME", "local")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        hosts = tf.tpu.experimental.initialize_tpu_system(resolver).num_tasks
        made = tf.distribute.TPUStrategy(resolver)
    # RuntimeError: on Google's machines TensorFlow requires their client library.
    except (ValueError, OSError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(
            f"--strategy=tpu finds no TPU {name!r} ({str(error).partition('. ')[0]}); set "
            "TPU_NAME, or use another strategy."
        ) from error
    # Each of several hosts would need batches of its own, and a single core other code.
    if hosts > 1 or made.num_replicas_in_sync < 2:
        raise ValueError(
            f"--strategy=tpu: cores of the TPU {name!r}: {made.num_replicas_in_sync}, its hosts: "
            f"{hosts}; expected at least two cores, of one host. Name another TPU in TPU_NAME, or "
            "use --strategy=one_device."
        )
    return made


def _workers() -> list[str]:
    """Returns the addresses of all workers in ``TF_CONFIG``, the chief first."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        cluster = json.loads(text).get("cluster", {}) if text else {}
        return [*cluster.get("chief", ()), *cluster.get("worker", ())]
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"TF_CONFIG is {text!r}, expected a value like {_EXAMPLE}.") from None


def _place() -> tuple[int, int]:
    """Returns this worker's index and the number of workers from ``TF_CONFIG``."""
    workers, text = _workers(), os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        address = cluster[task["type"]][task["index"]]
        index = workers.index(address)
    except (ValueError, KeyError, IndexError, TypeError):
        raise ValueError(
            f"--strategy=multi_worker: TF_CONFIG is {text!r}, expected a value like {_EXAMPLE}, "
            "with another index for every worker."
        ) from None
    if len(workers) < 2:
        raise ValueError(
            f"--strategy=multi_worker: TF_CONFIG names only the worker {address}; name at least "
            "two, or use another strategy."
        )
    return index, len(workers)


def _multi_worker(timeout: float) -> Any:
    """Returns the strategy of several machines."""
    index, _ = _place()
    make = tf.distribute.MultiWorkerMirroredStrategy  # The import does not count as time.
    _await_others(_workers(), index, timeout)
    # The constructor holds Python's lock and waits for the others for ever. Only code outside of
    # Python can end it; it must if a worker is lost at this very moment.
    faulthandler.dump_traceback_later(timeout, exit=True, file=sys.__stderr__ or 2)
    try:
        # No timeout for its exchanges: each would start a thread that sleeps as long. TensorFlow
        # checks every half minute that the others are alive.
        return make()
    finally:
        faulthandler.cancel_dump_traceback_later()


def _await_others(addresses: list[str], index: int, timeout: float) -> None:
    """Waits until a process answers at every worker's address; answers at its own."""
    end = time.monotonic() + timeout
    _, _, port = addresses[index].rpartition(":")
    missing = [address for i, address in enumerate(addresses) if i != index]
    try:
        listener = socket.create_server(("", int(port)))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--strategy=multi_worker: this worker cannot listen at {addresses[index]} ({error}); "
            "name another port for it in TF_CONFIG, the same on all machines."
        ) from error
    with listener:
        while missing := [address for address in missing if not _answers(address)]:
            if time.monotonic() > end:
                raise ValueError(
                    f"--strategy=multi_worker: after {timeout:.0f} s there is no answer from "
                    f"{' or '.join(missing)}. Start a process on every machine that TF_CONFIG "
                    "names, and read the error of the missing one."
                )
            time.sleep(0.1)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except (OSError, ValueError):
        return False
    return True


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turns TensorFlow's errors about a lost worker into one message."""
    try:
        yield
    except Exception as error:
        lost = (
            tf.errors.UnavailableError,
            tf.errors.DeadlineExceededError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
        )
        if not isinstance(error, lost):
            raise
        raise ValueError(
            "Another worker was lost, or has not answered in time; read its error. Start all "
            "workers again: they go on after the last finished epoch."
        ) from error

"""Hardware: the `tf.distribute` strategy that training runs under, chosen once for a process.

Nothing here changes what is made, only where: the same batches, split over the replicas of a
strategy, give the weights that one device gives, up to rounding. `used` enters a strategy by name.
Layers, optimizers and metrics are made under `scope`; all else (fit, save, load) happens outside of
it, because what one worker alone reads or writes inside a scope puts the workers out of step.
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
"""The strategies."""

TIMEOUT = 600.0
"""Seconds that workers wait for each other when they start."""

# Here the driver of NVIDIA tells of its GPUs, whatever TensorFlow can use.
_NVIDIA = Path("/proc/driver/nvidia/gpus")

_EXAMPLE = json.dumps(
    {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}
)


def strategy(name: str, timeout: float = TIMEOUT) -> Any:
    """Returns a new `tf.distribute.Strategy`.

    ``one_device`` is TensorFlow's default: the first accelerator, or the processor. ``mirrored``:
    all accelerators of this machine. ``multi_worker``: those of all machines that the environment
    variable ``TF_CONFIG`` names, one process on each; returns when all are there. ``tpu``: the TPU
    that ``TPU_NAME`` names, or the local one. ``auto``: which of these fits the machine.

    Raises:
        ValueError: What is missing, or which workers did not come.
    """
    makers: Mapping[str, Callable[[], Any]] = {
        "one_device": lambda: tf.distribute.get_strategy(),
        "mirrored": _mirrored,
        "multi_worker": lambda: _multi_worker(timeout),
        "tpu": _tpu,
    }
    _check(name)
    name = _asked(name)
    if name == "auto":
        name = "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "one_device"
    return makers[name]()


@contextlib.contextmanager
def used(name: str, timeout: float = TIMEOUT) -> Iterator[None]:
    """Makes a strategy the current one; one of this machine's devices is made when first asked for.

    Others are made at once, because they have to be before TensorFlow does anything else.

    Raises:
        ValueError: Another worker was lost; an unbroken run needs all of them.
    """
    global _chosen
    _check(name)
    name, before, index, count = _asked(name), _chosen, 0, 1
    if name == "multi_worker":
        index, count = _place()
    _chosen = _Chosen(functools.cache(functools.partial(strategy, name, timeout)), index, count)
    try:
        if name == "tpu" or count > 1:
            current()
        with _losses_told() if count > 1 else contextlib.nullcontext():
            yield
    finally:
        _chosen = before


def current() -> Any:
    """Returns the strategy that `used` has made the current one; TensorFlow's default if none."""
    return _chosen.make()


def scope() -> contextlib.AbstractContextManager[Any]:
    """Returns the scope in which variables are made that live on every replica."""
    return current().scope() if replicas() > 1 else contextlib.nullcontext()


def replicas() -> int:
    """Returns how many copies of a model are trained together."""
    return current().num_replicas_in_sync


def part() -> tuple[int, int]:
    """Returns which worker this process is, and of how many: it feeds that part of each batch."""
    return _chosen.index, _chosen.count


def is_chief() -> bool:
    """Returns whether this is the process that writes; of several workers the first one is."""
    return _chosen.index == 0


def told() -> str:
    """Returns what a fit runs on, and what is there but cannot be used."""
    kinds = collections.Counter(device.device_type for device in tf.config.list_logical_devices())
    used = replicas() // _chosen.count
    found = [f"{min(kinds[kind], used)} {kind}" for kind in ("GPU", "TPU") if kinds[kind]]
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if not found and _NVIDIA.is_dir() and not is_hidden:
        return (
            "the processor, though this machine has a GPU: TensorFlow finds no CUDA libraries. "
            "pip install 'tensorflow[and-cuda]' brings them"
        )
    return ", ".join(found) or "the processor"


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Has float32 multiplied as float32: newer GPUs round it to TF32 otherwise, by up to 1e-3."""
    precision = tf.config.experimental
    before = precision.tensor_float_32_execution_enabled()
    precision.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        precision.enable_tensor_float_32_execution(before)


def gathered(value: int) -> list[int]:
    """Returns the values that all workers call this with, in order, when all of them have."""
    if _chosen.count == 1:
        return [value]
    found = _gathering(current())(tf.constant([value], tf.int64)).numpy().tolist()
    return found[:: len(found) // _chosen.count]


def meet(about: str) -> None:
    """Waits until all workers are here.

    Raises:
        ValueError: They came with different texts, so they do not run the same thing.
    """
    if len(set(gathered(zlib.crc32(about.encode())))) > 1:
        raise ValueError(
            f"The workers do not agree; this one, number {_chosen.index}, is at: {about}. Start "
            "all of them with the same command line, the same code and the same files."
        )


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """What `used` entered: how to make the strategy, and which worker of how many this is."""

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


def _asked(name: str) -> str:
    """Returns the strategy that the name or, with ``auto``, the environment asks for."""
    if name == "auto" and len(_workers()) > 1:
        return "multi_worker"
    return "tpu" if name == "auto" and "TPU_NAME" in os.environ else name


def _mirrored() -> Any:
    mirrored = tf.distribute.MirroredStrategy()
    # Of one device there is nothing to mirror.
    return mirrored if mirrored.num_replicas_in_sync > 1 else tf.distribute.get_strategy()


def _tpu() -> Any:
    name = os.environ.get("TPU_NAME", "local")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    # A RuntimeError: on Google's machines TensorFlow wants their client library.
    except (ValueError, OSError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(
            f"--strategy=tpu finds no TPU {name!r} ({str(error).partition('. ')[0]}); set "
            "TPU_NAME, or use another strategy."
        ) from error


def _workers() -> list[str]:
    """Returns the addresses of all workers in ``TF_CONFIG``, the chief first."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        cluster = json.loads(text).get("cluster", {}) if text else {}
        return [*cluster.get("chief", ()), *cluster.get("worker", ())]
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"TF_CONFIG is {text!r}, expected the like of {_EXAMPLE}.") from None


def _place() -> tuple[int, int]:
    """Returns which of how many workers ``TF_CONFIG`` says this is."""
    workers, text = _workers(), os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        address = cluster[task["type"]][task["index"]]
        index = workers.index(address)
    except (ValueError, KeyError, IndexError, TypeError):
        raise ValueError(
            f"--strategy=multi_worker: TF_CONFIG is {text!r}, expected the like of {_EXAMPLE}, "
            "with another index for every worker."
        ) from None
    if len(workers) < 2:
        raise ValueError(
            f"--strategy=multi_worker: TF_CONFIG names the worker {address} alone; name at least "
            "two, or use another strategy."
        )
    return index, len(workers)


def _multi_worker(timeout: float) -> Any:
    """Returns the strategy of several machines."""
    index, _ = _place()
    make = tf.distribute.MultiWorkerMirroredStrategy  # The import is not in the time.
    _await_others(_workers(), index, timeout)
    # The constructor waits for the others with all of Python locked, and for ever; it cannot be
    # stopped but from outside of Python, and has to be only if one is lost in this very moment.
    faulthandler.dump_traceback_later(timeout, exit=True, file=sys.__stderr__ or 2)
    try:
        # Without a timeout of its exchanges: each would start a thread that sleeps as long. It asks
        # every half minute whether the others are alive.
        return make()
    finally:
        faulthandler.cancel_dump_traceback_later()


def _await_others(addresses: list[str], index: int, timeout: float) -> None:
    """Returns when a process answers at every worker's address, as this one does at its own."""
    end = time.monotonic() + timeout
    _, _, port = addresses[index].rpartition(":")
    missing = [address for i, address in enumerate(addresses) if i != index]
    try:
        door = socket.create_server(("", int(port)))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--strategy=multi_worker: this worker cannot listen at {addresses[index]} ({error}); "
            "name another port for it in TF_CONFIG, the same on all machines."
        ) from error
    with door:
        while missing := [address for address in missing if not _answers(address)]:
            if time.monotonic() > end:
                raise ValueError(
                    f"--strategy=multi_worker: after {timeout:.0f} s there is no answer from "
                    f"{' or '.join(missing)}. Start a process on every machine that TF_CONFIG "
                    "names, and look for the error of the one that is missing."
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
def _losses_told() -> Iterator[None]:
    """Turns what TensorFlow raises when another worker is gone into one message."""
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
            "Another worker was lost, or has not answered in time; look for its error. Start all "
            "workers again: they go on from the last epoch that was finished."
        ) from error

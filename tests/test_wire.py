"""Examples and records that are written without TensorFlow: its own bytes, to the last one."""

from __future__ import annotations

import numpy as np
import pytest

from tlkeras import wire
from tlkeras.frameworks import tf

STRINGS = [[], [b""], [b"a" * 127, b"b" * 128], [b"\xff\x00" * 20_000]]
INTEGERS = [[], [0], [1, 127, 128, 300, 2**31, 2**63 - 1], [-1, -(2**63)], [*range(200)]]
NUMBERS = [[], [0.0], [-1.5, 1e-45, 0.1, 1e39, -1e300], [float(x) for x in range(50)]]


@pytest.mark.parametrize("strings", STRINGS, ids=len)
@pytest.mark.parametrize("integers", INTEGERS, ids=len)
def test_an_example_is_written_as_tensorflow_writes_it(strings, integers):
    for numbers in NUMBERS:
        feature = {
            "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=strings)),
            "a": tf.train.Feature(int64_list=tf.train.Int64List(value=integers)),
            "größe": tf.train.Feature(float_list=tf.train.FloatList(value=numbers)),
        }
        whole = tf.train.Example(features=tf.train.Features(feature=feature))
        put = {
            "text": wire.bytes_feature(strings),
            "a": wire.integers_feature(integers),
            "größe": wire.numbers_feature(numbers),
        }
        assert wire.example(put) == whole.SerializeToString(deterministic=True)


def test_a_number_of_more_than_64_bits_is_refused():
    for number in (2**63, -(2**63) - 1):
        with pytest.raises(ValueError, match=f"^has the number {number}, expected at most 64"):
            wire.integers_feature([number])


def test_a_file_of_records_is_the_one_that_tensorflow_writes(tmp_path):
    random = np.random.default_rng(0)
    records = [random.bytes(length) for length in (0, 1, 11, 255, 4096, 100_000)]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in records:
            writer.write(record)
    (tmp_path / "ours").write_bytes(b"".join(map(wire.record, records)))
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert [*tf.data.TFRecordDataset(str(tmp_path / "ours")).as_numpy_iterator()] == records

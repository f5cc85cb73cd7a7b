"""What the steps on the data write."""

import json

import numpy as np
import pytest
from conftest import Tiny
from PIL import Image

from pipeline.steps import (
    example_gen,
    example_validator,
    model_card,
    schema_gen,
    statistics_gen,
)
from tlkeras.data import ingest, records
from tlkeras.data.splits import Split
from tlkeras.doctor import samples, schemas, statistics, traits
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification


def made(tmp_path, counts, sizes=(16, 20), width=12):
    """Returns the products of the steps on pictures of these counts by split and class."""
    random = np.random.default_rng(3)
    for split, classes in counts.items():
        for name, count in classes.items():
            (tmp_path / "pictures" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (sizes[i % len(sizes)], width, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(
                    tmp_path / "pictures" / split / name / f"{split}{name}{i}.png"
                )
    products = {}
    for name in ("examples", "statistics", "schema", "anomalies"):
        products[name] = tmp_path / name
        products[name].mkdir()
    source, split = Folder(tmp_path / "pictures"), Split(validation=0, test=0)
    example_gen.examples.run(
        products["examples"],
        source=source,
        split=split,
        max_bad_fraction=0.01,
        quarantine=tmp_path / "quarantine",
    )
    statistics_gen.statistics.run(products["statistics"], examples=products["examples"])
    schema_gen.schema.run(products["schema"], statistics=products["statistics"])
    example_validator.anomalies.run(
        products["anomalies"],
        examples=products["examples"],
        statistics=products["statistics"],
        schema=products["schema"],
        backbone=Tiny(),
        task=Classification(),
        batch_size=8,
        seed=0,
        precision="float32",
        recipe=FineTune(),
        feature_cache_gb=1.0,
        features=tmp_path / "features",
    )
    return products


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    counts = {"train": {"a": 30, "b": 2, "c": 20}, "test": {"a": 1, "b": 9}}
    return made(tmp_path_factory.mktemp("steps"), counts)


def test_the_statistics_count_what_lies_in_each_split(products):
    datasets = {d.name: d for d in statistics_gen.read(products["statistics"]).datasets}
    assert {name: d.num_examples for name, d in datasets.items()} == {"train": 52, "test": 10}
    features = {f.name: f for f in datasets["train"].features}
    tops = features["label"].string_stats.top_values
    assert [(top.value, top.frequency) for top in tops] == [("a", 30), ("c", 20), ("b", 2)]
    heights = np.tile([16, 20], 26)
    summary = features["image.height"].num_stats
    assert (summary.min, summary.max) == (16, 20)
    assert summary.mean == pytest.approx(heights.mean())
    assert summary.std_dev == pytest.approx(heights.std())
    (histogram,) = summary.histograms
    assert sum(bucket.sample_count for bucket in histogram.buckets) == 52


@pytest.mark.parametrize("numbers", [[1.7e18], [0.3, 0.1 + 0.2], [7.0, 7.0], [1.0, 2.0]])
def test_numbers_near_each_other_are_counted(numbers):
    lists = statistics_gen.protos("statistics").DatasetFeatureStatisticsList()
    statistics.add(lists, "train", len(numbers), {"time": np.array(numbers)}, {})
    (histogram,) = lists.datasets[0].features[0].num_stats.histograms
    assert sum(bucket.sample_count for bucket in histogram.buckets) == len(numbers)


def test_a_reader_of_the_statistics_finds_what_tfdv_and_facets_draw(products):
    statistics_pb2 = statistics_gen.protos("statistics")
    found = statistics_pb2.DatasetFeatureStatisticsList()
    found.ParseFromString((products["statistics"] / statistics_gen.FILE).read_bytes())
    kinds = statistics_pb2.FeatureNameStatistics
    for dataset in found.datasets:
        assert {feature.name for feature in dataset.features} == {
            *("image.bytes", "image.height", "image.width", "label"),
            *("image.brightness", "image.contrast", "image.border", "image.format", "image.mode"),
        }
        for feature in dataset.features:
            of_words = feature.WhichOneof("stats") == "string_stats"
            assert feature.type == (kinds.STRING if of_words else kinds.FLOAT)
            summary = feature.string_stats if of_words else feature.num_stats
            common = summary.common_stats
            assert common.num_non_missing == common.tot_num_values == dataset.num_examples
            assert common.num_missing == 0 and common.avg_num_values == 1
            if of_words:
                assert summary.unique == len(summary.top_values)
                buckets = summary.rank_histogram.buckets
                assert [bucket.low_rank for bucket in buckets] == list(range(len(buckets)))
            else:
                assert summary.min <= summary.median <= summary.max
                (histogram,) = summary.histograms
                assert histogram.type == statistics_pb2.Histogram.STANDARD
                buckets = histogram.buckets
                edges = [bucket.low_value for bucket in buckets] + [buckets[-1].high_value]
                assert edges == sorted(edges)
                assert [bucket.high_value for bucket in buckets] == edges[1:]
            assert sum(bucket.sample_count for bucket in buckets) == dataset.num_examples


@pytest.mark.parametrize("data", ["shapes", "notes"])
def test_what_reading_counts_is_what_the_records_hold(data, tmp_path):
    info = ingest.write_examples(
        Embedded(data=data, count=30), Split(), tmp_path, lambda text: None
    )
    rows = {row.identity: row for row in traits.read(tmp_path)}
    for split, count in info.counts.items():
        for record in records.Records(tmp_path, split).between(0, count):
            identity, values = records.values(record, info.features)
            row = rows[identity]
            numbers, words = samples.of_values(values, info.features, info.classes)
            told = [samples.of_traits(key, found)[0] for key, found in row.traits.items()]
            counted = {**row.numbers, **{name: x for each in told for name, x in each.items()}}
            assert row.split == split and row.words == words
            assert {name: counted[name] for name in numbers} == pytest.approx(numbers)


def test_the_schema_holds_the_classes_and_ranges_of_train(products):
    features = {f.name: f for f in schema_gen.read(products["schema"]).feature}
    assert list(features["label"].string_domain.value) == ["a", "b", "c"]
    domain = features["image.width"].float_domain
    assert (domain.min, domain.max) == (12, 12)
    domain = features["image.height"].float_domain
    assert (domain.min, domain.max) == (16, 20)


def test_the_schema_tells_the_share_of_every_word_and_how_far_it_may_move(products):
    features = {f.name: f for f in schema_gen.read(products["schema"]).feature}
    assert list(features["label"].annotation.comment) == [
        "0.5769 of the examples: a",
        "0.0385 of the examples: b",
        "0.3846 of the examples: c",
    ]
    assert list(features["image.format"].string_domain.value) == ["PNG"]
    assert list(features["image.mode"].string_domain.value) == ["RGB"]
    for comparator in ("skew_comparator", "drift_comparator"):
        threshold = getattr(features["label"], comparator).infinity_norm.threshold
        assert threshold == pytest.approx(0.1)
    written = traits.read(products["examples"])
    greys = [row.traits["image"]["brightness"] for row in written if row.split == "train"]
    domain = features["image.brightness"].float_domain
    assert (domain.min, domain.max) == pytest.approx((min(greys), max(greys)))


def test_the_shares_of_a_schema_are_of_examples_only_where_each_has_one_word():
    lists = statistics.protos("statistics").DatasetFeatureStatisticsList()
    words = {"label": {"a": 3, "b": 1}, "labels": {"a": 4, "b": 4}, "tags": {"a": 2}}
    statistics.add(lists, "train", 4, {}, words)
    features = {f.name: f for f in schemas.of(lists.datasets[0]).feature}
    assert {name: [*f.annotation.comment] for name, f in features.items()} == {
        "label": ["0.7500 of the examples: a", "0.2500 of the examples: b"],
        "labels": ["0.5000 of the values: a", "0.5000 of the values: b"],
        "tags": ["1.0000 of the values: a"],
    }


def test_the_card_counts_one_word_as_one(products):
    columns = {name: told for name, _, told, _ in model_card._columns(products["statistics"])}
    assert columns["image.format"] == "1 word" and columns["label"] == "3 words"


def test_a_class_that_training_never_sees_is_told(tmp_path, capsys):
    counts = {"train": {"a": 25, "b": 25}, "test": {"a": 5, "b": 5, "c": 5}}
    products = made(tmp_path, counts)
    told = "c in test, never in train."
    assert told in (products["anomalies"] / example_validator.FILE).read_text()
    assert told in capsys.readouterr().out


def test_the_anomalies_name_what_is_odd(products):
    from google.protobuf import text_format

    text = (products["anomalies"] / example_validator.FILE).read_text()
    found = text_format.Parse(text, statistics_gen.protos("anomalies").Anomalies())
    told = found.anomaly_info["label"].description
    assert "fewer than 20 training examples of 'b' (2)" in told
    assert "30 training examples of 'a' against 2 of 'b'" in told
    assert "no test example of c" in told
    assert "'b' has a share of 90% in test and of 4% in train" in told


def test_tiny_pictures_of_any_split_are_told(tmp_path):
    for folder, sides in (("even", (16, 20)), ("tiny", (16, 4))):
        counts = {"train": {"a": 30, "b": 30}, "test": {"a": 30, "b": 30}}
        products = made(tmp_path / folder, counts, sides)
        text = (products["anomalies"] / example_validator.FILE).read_text()
        assert ("the smallest of test is 4 pixels" in text) is (folder == "tiny")


def test_even_data_has_no_anomaly(tmp_path):
    counts = {"train": {"a": 25, "b": 25}, "test": {"a": 5, "b": 5}}
    products = made(tmp_path, counts, (48, 50), 48)
    assert "anomaly_info" not in (products["anomalies"] / example_validator.FILE).read_text()


def test_equal_data_gives_equal_bytes(tmp_path):
    counts = {"train": {"a": 3, "b": 3}}
    first, second = (made(tmp_path / name, counts) for name in ("first", "second"))
    for step in ("statistics", "schema", "anomalies"):
        names = sorted(path.name for path in first[step].iterdir())
        for name in names:
            assert (first[step] / name).read_bytes() == (second[step] / name).read_bytes()
    info = [json.loads((p["examples"] / "info.json").read_text()) for p in (first, second)]
    assert info[0] == info[1]

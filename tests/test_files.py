"""JSON files: written whole, and read back as they were written."""

from __future__ import annotations

import os

import pytest

from tlkeras import files


def test_json_comes_back_with_names_of_any_bytes(tmp_path):
    value = {"classes": ["Grüße", "世界", os.fsdecode(b"caf\xe9.jpg")], "half": 0.5, "none": None}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == value
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_value_that_json_cannot_hold_leaves_the_old_file(tmp_path):
    files.write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", [object()])
    assert files.read_json(tmp_path / "a.json") == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]

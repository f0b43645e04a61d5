from pathlib import Path

import pytest

from voxgraft.files import atomic_path, content_key, read_json, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_json_has_null_for_nan_and_keys_follow_content(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": (1, 2.5)})
    assert read_json(tmp_path / "a.json") == {"x": None, "y": [1, 2.5]}
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 2})

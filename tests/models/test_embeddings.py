"""Files of embeddings: every kind, with and without names; and what is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from voxgraft.errors import ModelError
from voxgraft.models.decoders import read_embeddings

ROWS = torch.randn(3, 512, generator=torch.Generator().manual_seed(0))
NAMES = ["liver", "spleen", "aorta"]


def save(folder, suffix, rows=ROWS):
    path = folder / f"names{suffix}"
    if suffix == ".npy":
        np.save(path, rows.numpy())
    elif suffix == ".safetensors":
        save_file({"embeddings": rows}, path)
    else:
        torch.save(rows, path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".pth", ".pt"])
def test_rows_without_names_are_in_order(tmp_path, suffix):
    path = save(tmp_path, suffix)
    torch.testing.assert_close(read_embeddings(path, NAMES), ROWS)
    with pytest.raises(
        ModelError, match=f"names{suffix} has 3 embeddings without names"
    ) as refused:
        read_embeddings(path, NAMES[:2])
    assert "expected 2" in str(refused.value)


@pytest.mark.parametrize("where", ["metadata", "json", "txt", "vectors"])
def test_rows_with_names_are_matched_by_name(tmp_path, where):
    path = save(tmp_path, ".npy")
    if where == "metadata":
        path = tmp_path / "names.safetensors"
        save_file({"embeddings": ROWS}, path, metadata={"classes": json.dumps(NAMES)})
    elif where == "vectors":
        path = tmp_path / "names.pth"
        torch.save({name: row.half() for name, row in zip(NAMES, ROWS, strict=True)}, path)
    elif where == "json":
        path.with_suffix(".json").write_text(json.dumps(NAMES))
    else:
        path.with_suffix(".txt").write_text("\n".join(NAMES) + "\n")
    found = read_embeddings(path, ["aorta", "liver"])
    torch.testing.assert_close(found, ROWS[[2, 0]], rtol=1e-3, atol=1e-3)
    with pytest.raises(ModelError, match="lacks embeddings of classes") as refused:
        read_embeddings(path, ["colon", "liver", "rectum"])
    assert "'colon'" in str(refused.value)
    assert "'rectum'" in str(refused.value)


@pytest.mark.parametrize("names", ["{}", "[1]", "[", '["a", "b"]', '["a", "a", "b"]'])
def test_names_that_do_not_fit_the_rows_are_refused(tmp_path, names):
    path = save(tmp_path, ".npy")
    path.with_suffix(".json").write_text(names)
    with pytest.raises(ModelError, match="names"):
        read_embeddings(path, NAMES)


def test_files_that_hold_no_embeddings_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no file"):
        read_embeddings(tmp_path / "a.npy", NAMES)
    with pytest.raises(ModelError, match=r"'\.csv'"):
        read_embeddings(tmp_path / "a.csv", NAMES)
    for suffix in (".npy", ".safetensors", ".pth"):
        damaged = tmp_path / f"damaged{suffix}"
        for content in (b"", b"no numbers at all", save(tmp_path, suffix).read_bytes()[:200]):
            damaged.write_bytes(content)
            with pytest.raises(ModelError, match="damaged"):
                read_embeddings(damaged, NAMES)
    with pytest.raises(ModelError, match=r"\(3, 256\).*512"):
        read_embeddings(save(tmp_path, ".npy", ROWS[:, :256]), NAMES)
    with pytest.raises(ModelError, match="int32"):
        read_embeddings(save(tmp_path, ".npy", ROWS.int()), NAMES)
    several = tmp_path / "several.pth"
    torch.save({"a": ROWS, "b": ROWS}, several)
    with pytest.raises(ModelError, match="2 tensors"):
        read_embeddings(several, NAMES)
    torch.save(["a"], several)
    with pytest.raises(ModelError, match="list"):
        read_embeddings(several, NAMES)


def test_nothing_in_a_file_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("run",))

    path = tmp_path / "trap.pth"
    torch.save(Trap(), path)
    with pytest.raises(ModelError, match="cannot be read"):
        read_embeddings(path, NAMES)
    np.save(tmp_path / "trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(ModelError, match="cannot be read"):
        read_embeddings(tmp_path / "trap.npy", NAMES)

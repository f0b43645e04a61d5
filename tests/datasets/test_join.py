"""Tables of several data sets as one: paths, ids, what is annotated, and what cannot be joined."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from voxgraft.cli.main import app
from voxgraft.datasets import (
    check_table,
    join_tables,
    known_structures,
    read_masks,
    read_table,
    structure_names,
)
from voxgraft.errors import TableError
from voxgraft.volumes import Affine, Volume, write_volume

SHAPE = (4, 5, 6)


def data_set(folder: Path, values: dict[str, int], cases, file="table.csv", **columns):
    """Write scans whose label maps are random; return the table and the label maps."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(sum(folder.name.encode()))
    rows, drawn = [], {}
    for case in cases:
        drawn[case] = rng.integers(0, max(values.values()) + 1, SHAPE).astype(np.uint8)
        affine = Affine.from_spacing((2.0, 1.0, 1.0))
        write_volume(Volume(rng.normal(size=(1, *SHAPE)).astype(np.float32), affine),
                     folder / f"{case}.nii.gz")  # fmt: skip
        write_volume(Volume(drawn[case][None], affine), folder / f"{case}_mask.nii.gz")
        rows.append(
            {
                "case_id": case,
                "patient_id": f"p{case}",
                "image": f"{case}.nii.gz",
                "masks": f"{case}_mask.nii.gz",
            }
        )
    content = {"kind": "label_map", "structures": values}
    (folder / "structures.json").write_text(json.dumps(content))
    pd.DataFrame(rows).assign(**columns).to_csv(folder / file, index=False)
    return read_table(folder / file), drawn


@pytest.fixture
def two(tmp_path):
    """Two data sets in which the value 1 means different things."""
    btcv = data_set(
        tmp_path / "btcv",
        {"liver": 1, "spleen": 2},
        ["1", "2", "3"],
        split=["train", "train", "test"],
        annotated=["", "spleen", "liver"],
        age=[50, 60, 70],
    )
    flare = data_set(
        tmp_path / "deep" / "flare",
        {"pancreas": 1, "liver": 2},
        ["2", "9"],
        split=["train", "validation"],
        site="F",
    )
    return btcv, flare


def test_masks_are_those_of_their_own_data_set(two, tmp_path):
    (btcv, drawn), (flare, drawn_flare) = two
    said = []
    joined = join_tables([btcv, flare], tmp_path / "out" / "all.csv", on_notice=said.append)
    assert joined.case_ids == ("1", "btcv_2", "3", "flare_2", "9")
    assert joined.patients == ("p1", "btcv_p2", "p3", "flare_p2", "p9")
    assert list(joined.frame["dataset"]) == ["btcv"] * 3 + ["flare"] * 2
    assert any("2 is btcv_2" in line for line in said)
    assert any("2 is flare_2" in line for line in said)
    assert any("p2 is btcv_p2" in line for line in said)
    assert not any(Path(cell).is_absolute() for cell in joined.frame["image"])
    assert structure_names(joined) == ("liver", "spleen", "pancreas")
    known = known_structures(joined, ["liver", "spleen", "pancreas"])
    expected = [[1, 1, 0], [0, 1, 0], [1, 0, 0], [1, 0, 1], [1, 0, 1]]
    assert known.astype(int).tolist() == expected
    for case, name, truth in (
        ("1", "liver", drawn["1"] == 1),
        ("btcv_2", "spleen", drawn["2"] == 2),
        ("flare_2", "liver", drawn_flare["2"] == 2),
        ("9", "pancreas", drawn_flare["9"] == 1),
    ):
        found = read_masks(joined, case, [name])
        np.testing.assert_array_equal(found.mask(name), truth)
    assert read_masks(joined, "btcv_2").annotated == ("spleen",)
    assert not [fault for fault in check_table(joined) if fault.severity == "fault"]


def test_other_columns_are_united_and_split_needs_all(two, tmp_path):
    (btcv, _), (flare, _) = two
    joined = join_tables([btcv, flare], tmp_path / "all.csv")
    assert list(joined.frame["split"]) == ["train", "train", "test", "train", "validation"]
    assert joined.frame["age"].tolist()[:3] == [50, 60, 70]
    assert joined.frame["age"].isna().tolist() == [False] * 3 + [True] * 2
    assert list(joined.frame["site"]) == ["", "", "", "F", "F"]
    said = []
    bare, _ = data_set(tmp_path / "bare", {"liver": 1}, ["x"], age=["old"])
    joined = join_tables([joined, bare], tmp_path / "more.parquet", on_notice=said.append)
    assert "split" not in joined.frame
    assert any("column split is left out" in line for line in said)
    assert list(joined.frame["dataset"]) == ["btcv"] * 3 + ["flare"] * 2 + ["bare"]
    assert joined.frame["age"].isna().tolist() == [False] * 3 + [True] * 2 + [False]
    assert joined.frame["age"].dropna().tolist() == ["50", "60", "70", "old"]
    assert read_masks(joined, "x").annotated == ("liver",)


def test_absolute_paths_stay_and_folders_may_be_links(two, tmp_path):
    (btcv, _), (_, _) = two
    whole = btcv.with_column("image", [str(btcv.image_path(case)) for case in btcv.case_ids])
    other, _ = data_set(tmp_path / "real", {"liver": 1}, ["z"], split="train")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "linked").symlink_to(tmp_path / "real")
    linked = read_table(tmp_path / "link" / "linked" / "table.csv")
    joined = join_tables([whole, linked], tmp_path / "o" / "all.csv", names=["a", "b"])
    assert [joined.image_path(case).is_file() for case in joined.case_ids] == [True] * 4
    assert Path(joined.frame["image"][0]).is_absolute()
    assert read_masks(joined, "z").annotated == ("liver",)
    assert other.case_ids == ("z",)


def test_one_scan_in_two_tables_is_one_patient_or_refused(tmp_path):
    first, _ = data_set(tmp_path / "a", {"liver": 1}, ["1", "2"])
    frame = first.frame.assign(case_id=["s1", "s2"])
    frame.to_csv(tmp_path / "a" / "spleens.csv", index=False)
    second = read_table(tmp_path / "a" / "spleens.csv")
    with pytest.raises(TableError, match=r"(?s)several patients.*a_p1, spleens_p1.*same-patients"):
        join_tables([first, second], tmp_path / "all.csv")
    joined = join_tables([first, second], tmp_path / "all.csv", same_patients=True)
    assert joined.patients == ("p1", "p2")
    split = [first.with_column("split", ["train", "train"])]
    split.append(second.with_column("split", ["test", "train"]))
    with pytest.raises(TableError, match=r"(?s)several splits.*'p1': test, train"):
        join_tables(split, tmp_path / "x.csv", names=["a", "b"], same_patients=True)
    assert not (tmp_path / "x.csv").exists()


def test_what_cannot_be_joined_is_said(two, tmp_path):
    (btcv, _), (flare, _) = two
    out = tmp_path / "all.csv"
    with pytest.raises(TableError, match="two tables or more, found 1"):
        join_tables([btcv], out)
    with pytest.raises(TableError, match="told apart by their names"):
        join_tables([btcv, btcv], out)
    with pytest.raises(TableError, match="for 2 tables"):
        join_tables([btcv, flare], out, names=["a"])
    before = flare.path.read_bytes()
    with pytest.raises(TableError, match="is one of the tables to join"):
        join_tables([btcv, flare], flare.path)
    assert flare.path.read_bytes() == before
    plain = type(btcv)(flare.frame.drop(columns="masks"), flare.root, flare.path)
    with pytest.raises(TableError, match=r"(?s)some tables have masks.*flare"):
        join_tables([btcv, plain], out)
    double = type(btcv)(pd.concat([flare.frame] * 2), flare.root, flare.path)
    with pytest.raises(TableError, match=r"(?s)cases stand twice.*'9' stands in 2 rows"):
        join_tables([btcv, double], out)
    marked = btcv.with_column("dataset", ["one"] * 3), flare.with_column("dataset", ["one"] * 2)
    with pytest.raises(TableError, match=r"(?s)cannot be told apart, though.*'one_2'"):
        join_tables(marked, out, names=["a", "b"])
    assert not out.exists()


def test_the_verb_says_what_it_joined(two, tmp_path):
    (btcv, _), (flare, _) = two
    words = ["data", "join", str(btcv.path), str(flare.path), "--out", str(tmp_path / "all.csv")]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "flare\t2\t2\tpancreas liver" in done.stdout
    assert "2 is flare_2" in done.stderr
    done = CliRunner().invoke(app, [*words, "--name", "a", "--name", "b", "--json"])
    content = json.loads(done.stdout)
    assert content["cases"] == 5
    assert content["datasets"][0] == {
        "dataset": "a",
        "cases": 3,
        "patients": 3,
        "structures": "liver spleen",
    }

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from voxgraft.cli.main import app
from voxgraft.datasets import import_videos, read_table
from voxgraft.errors import TableError

_spec = importlib.util.spec_from_file_location(
    "films", Path(__file__).parents[1] / "videos" / "films.py"
)
films = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(films)

Tree = Callable[..., Path]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    muxer = {"movflags": "faststart"}
    return films.write_video(folder / "a.mp4", films.pattern(60, 24, 32), muxer=muxer)


@pytest.fixture
def tree(film: Path, tmp_path: Path) -> Tree:
    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(film, path)
        return tmp_path / "root"

    return make


def test_kinetics_folders(tree: Tree, tmp_path: Path) -> None:
    root = tree(
        "train/push up/-a_b1_000012_000022.mp4",
        "train/push up/-a_b1_000030_000040.mp4",
        "train/yoga/x_000000_000010.mkv",
        "validate/yoga/y.webm",
        "test/push up/deep/z_000001_000011.MOV",
    )
    (root / "train" / "yoga" / "notes.txt").write_text("x")
    (root / "train" / ".hidden.mp4").write_text("x")
    seen = []
    table = import_videos(
        root, tmp_path / "tables" / "t.csv", jobs=2, on_progress=lambda *done: seen.append(done)
    )
    assert seen[-1] == (5, 5)
    rows = table.frame[["case_id", "patient_id", "label", "split"]].to_numpy().tolist()
    assert rows == [
        ["test_push up_deep_z_000001_000011", "z", "push up", "test"],
        ["train_push up_-a_b1_000012_000022", "-a_b1", "push up", "train"],
        ["train_push up_-a_b1_000030_000040", "-a_b1", "push up", "train"],
        ["train_yoga_x_000000_000010", "x", "yoga", "train"],
        ["validate_yoga_y", "validate/yoga/y", "yoga", "validation"],
    ]
    again = read_table(tmp_path / "tables" / "t.csv")
    assert list(again.frame.columns) == ["case_id", "patient_id", "image", "label", "split"]
    assert all(again.image_path(case_id).is_file() for case_id in again.case_ids)
    assert str(again.frame["image"][0]).startswith("../root/test")


def test_class_folders_and_sources_by_pattern(tree: Tree, tmp_path: Path) -> None:
    root = tree("Yo/v_Yo_g01_c01.avi", "Yo/v_Yo_g01_c02.avi", "Run/v_Run_g01_c01.avi")
    table = import_videos(root, root / "t.csv", source_pattern=r"(v_\w+_g\d+)")
    assert table.frame["patient_id"].tolist() == ["v_Run_g01", "v_Yo_g01", "v_Yo_g01"]
    assert table.frame["image"].tolist()[0] == "Run/v_Run_g01_c01.avi"
    assert "split" not in table.frame
    with pytest.raises(TableError, match="source pattern 'zz' does not match its path"):
        import_videos(root, root / "t.csv", source_pattern="zz")
    with pytest.raises(TableError, match=r"source pattern '\(' is no regular expression"):
        import_videos(root, root / "t.csv", source_pattern="(")


def test_all_faults_at_once_or_left_out(tree: Tree, tmp_path: Path) -> None:
    root = tree(
        "train/a/v1.mp4", "train/a/v1.mkv", "train/a/cut.mp4", "train/a/s_000001_000002.mp4",
        "train/a/good.mp4", "train/b/fine.mp4", "train/loose.mp4", "test/b/s_000003_000004.mp4",
    )  # fmt: skip
    cut = root / "train" / "a" / "cut.mp4"
    cut.write_bytes(cut.read_bytes()[:2500])
    (root / "train" / "a" / "text.mp4").write_text("text")
    (root / "train" / "a" / "empty.avi").touch()
    (root / "train" / "a" / "half.mp4.part").touch()
    out = tmp_path / "t.csv"
    with pytest.raises(TableError) as error:
        import_videos(root, out)
    text = str(error.value)
    for part in (
        "videos that cannot be used (7 faults)",
        "half.mp4.part: is no video (by its suffix)",
        "loose.mp4: lies in no class folder",
        "train/a/v1.mkv and train/a/v1.mp4: would share the case_id 'train_a_v1'",
        "train/a/cut.mp4: is cut short",
        "train/a/text.mp4: cannot be read as a video",
        "train/a/empty.avi: is empty (0 bytes)",
        "train/a/s_000001_000002.mp4: is of the video 's', of which the test split has clips too",
    ):
        assert part in text
    assert not out.exists()
    notices: list[str] = []
    table = import_videos(root, out, leave_out_faulty=True, on_notice=notices.append)
    images = [Path(image).name for image in table.frame["image"]]
    assert images == ["s_000003_000004.mp4", "good.mp4", "fine.mp4"]
    left_out = pd.read_csv(tmp_path / "t_left_out.csv")
    assert len(left_out) == 7
    assert notices == [f"7 left out; {tmp_path / 't_left_out.csv'} says which and why"]


def test_kinetics_annotations(tree: Tree, tmp_path: Path) -> None:
    root = tree(
        "train/-a_000012_000022.mp4", "val/b_000000_000010.mp4", "other/unnamed.mp4",
        "train/d_000001_000011.mp4", "val/d_000001_000011.mp4",
    )  # fmt: skip
    header = "label,youtube_id,time_start,time_end,split,is_cc\n"
    train, val = tmp_path / "train.csv", tmp_path / "validate.csv"
    train.write_text(header + '"push up, fast",-a,12,22,train,0\n')
    val.write_text(header + "yoga,b,0.0,10,validate,1\n")
    table = import_videos(root, tmp_path / "t.csv", annotations=[train, val])
    assert table.frame.to_numpy().tolist() == [
        ["-a_000012_000022", "-a", "root/train/-a_000012_000022.mp4", "push up, fast", "train"],
        ["b_000000_000010", "b", "root/val/b_000000_000010.mp4", "yoga", "validation"],
    ]
    rows = "yoga,gone,1,11,val,0\nyoga,d,1,11,val,0\n,b,0,10,val,0\nyoga,b,x,10,val,0\n"
    val.write_text(header + rows + "yoga,b,0,10,holdout,0\npush up, fast,b,0,10,val,0\n")
    with pytest.raises(TableError) as error:
        import_videos(root, tmp_path / "t.csv", annotations=[train, val])
    for part in (
        "validate.csv, line 2: gone_000001_000011: has no file below the root",
        "has several files, train/d_000001_000011.mp4 and val/d_000001_000011.mp4",
        "line 4: has no label",
        "line 5: time_start is 'x' and time_end '10'; expected seconds",
        "line 6: split is 'holdout'; expected one of train, training",
        "line 7: has 7 cells, expected 6; a label with a comma stands in quotes",
    ):
        assert part in str(error.value)
    val.write_text("youtube_id,time_start,time_end\nb,0,10\n")
    with pytest.raises(TableError, match=r"validate\.csv: has no column label; found youtube_id"):
        import_videos(root, tmp_path / "t.csv", annotations=[val])
    val.write_text("label,youtube_id,time_start,time_end\nyoga,b,0,10\n")
    with pytest.raises(TableError, match=r"validate\.csv: has no column split, but other"):
        import_videos(root, tmp_path / "t.csv", annotations=[train, val])


def test_trees_that_cannot_become_a_table(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such folder"):
        import_videos(tmp_path / "gone", tmp_path / "t.csv")
    root = tree("a/1.mp4")
    with pytest.raises(TableError, match=r"found 1 videos in classes a; expected .* two or more"):
        import_videos(root, tmp_path / "t.csv")
    (root / "b").mkdir()
    (root / "b" / "2.mp4").write_text("x")
    with pytest.raises(TableError, match=r"found 1 videos in classes a; .* 1 file\(s\) were left"):
        import_videos(root, tmp_path / "t.csv", leave_out_faulty=True)


def test_the_verb(tree: Tree, tmp_path: Path) -> None:
    root = tree("train/a/1.mp4", "train/b/2.mp4", "val/a/3.mp4")
    (root / "val" / "a" / "4.mp4").write_text("x")
    out = tmp_path / "t.csv"
    command = ["data", "import", "videos", str(root), "--out", str(out)]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code != 0
    assert not out.exists()
    done = CliRunner().invoke(app, [*command, "--leave-out-faulty"])
    assert done.exit_code == 0
    assert len(read_table(out)) == 3

"""What preprocessing gives to a network, and a training on windows as channels, end to end."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voxgraft.datasets import Target, read_table
from voxgraft.errors import StoreError
from voxgraft.inference import load_trained, predict
from voxgraft.recipes import ModelSettings, Recipe, StartSettings, recipe_from_dict
from voxgraft.runs import begin_run, execute_run
from voxgraft.runs.build import build_network
from voxgraft.runs.input_contract import NOTE, given_input
from voxgraft.runs.publish import model_page
from voxgraft.store import VolumeStore
from voxgraft.training import Optimization
from voxgraft.transforms import Augmentation, Keep, MinMax, Preprocessing, Window, ZScore
from voxgraft.volumes import Affine, Volume, write_volume
from voxgraft.weights import load_card
from voxgraft.weights.card import card_source

CHEST = ((-1350.0, 150.0), (-100.0, 900.0), (-160.0, 240.0))
SETTINGS = Preprocessing.from_dict(
    {
        "spacing_mm": [2.0, None, None],
        "resize_voxels": [None, 20, 20],
        "size_voxels": [8, 16, 16],
        "intensity": {"kind": "window_channels", "windows": ["lung", "pe", "mediastinum"]},
    }
)


def test_what_a_network_is_given() -> None:
    given = given_input(SETTINGS, in_channels=3)
    assert (given.channels, given.scaling, given.window_hu) == (3, "unit", None)
    assert given.channel_windows_hu == CHEST
    assert given.spacing_mm == (2.0, None, None)
    assert given.size_voxels == (8, 16, 16)
    assert given_input(SETTINGS, in_channels=3, crop_size_voxels=(4, 8, 8)).size_voxels == (4, 8, 8)
    window = given_input(Preprocessing(intensity=Window.named("pe")), in_channels=1)
    assert (window.scaling, window.window_hu, window.channel_windows_hu) == (
        "unit",
        (-100.0, 900.0),
        (),
    )
    scalings = {MinMax(): "unit", ZScore(): "z_score", Keep(): "raw"}
    for intensity, scaling in scalings.items():
        other = given_input(Preprocessing(intensity=intensity), in_channels=1)
        assert (other.scaling, other.window_hu) == (scaling, None)


@pytest.fixture(scope="module")
def table_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine studies of other thickness and in-plane spacing each."""
    folder = tmp_path_factory.mktemp("chest")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(9):
        voxels = rng.normal(-200, 400, (1, 10 + number, 24, 24)).astype(np.int16)
        affine = Affine.from_spacing((1 + number / 4, 0.6 + number / 50, 0.6 + number / 50))
        write_volume(Volume(voxels, affine), folder / f"s{number}.nii.gz")
        rows.append(
            {
                "case_id": f"s{number}",
                "patient_id": f"p{number}",
                "image": f"s{number}.nii.gz",
                "pe": "yes" if number % 2 else "no",
                "split": ("train", "validation", "test")[number % 3],
            }
        )
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def recipe(table: Path, start: StartSettings, preprocessing: Preprocessing) -> Recipe:
    return Recipe(
        table=str(table),
        target=Target(kind="binary", columns=("pe",), classes=("no", "yes")),
        metric="auroc",
        preprocessing=preprocessing,
        augmentation=Augmentation(rotation_degrees=(20, 0, 0), scale=(0.9, 1.1), in_plane=True),
        model=ModelSettings(name="plain_resnet10_3d"),
        start=start,
        optimization=Optimization(
            steps=2, batch_size=2, eval_every=2, learning_rate=1e-3, threads=1
        ),
        memory_format="contiguous",
        store=str(table.parent / "store"),
    )


def test_a_training_on_three_windows_and_the_next_one_from_it(
    table_path: Path, tmp_path: Path
) -> None:
    chosen = recipe(table_path, StartSettings(name="scratch"), SETTINGS)
    assert recipe_from_dict(chosen.to_dict(), "again") == chosen
    begin_run(tmp_path / "first", chosen)
    execute_run(tmp_path / "first")
    run = load_trained(tmp_path / "first")
    assert run.network.encoder.in_channels == 3
    table = read_table(table_path)
    found = predict(run, [table.image_path(case) for case in table.case_ids])["probability_yes"]
    stored = pd.read_parquet(tmp_path / "first" / "predictions.parquet").set_index("case_id")
    expected = stored["score_0"]
    both = [case in expected.index for case in table.case_ids]
    np.testing.assert_allclose(found[both], expected.loc[np.array(table.case_ids)[both]], atol=2e-3)
    card = load_card(tmp_path / "first")
    assert (card.window_hu, card.channel_windows_hu, card.spacing_mm) == (None, CHEST, None)
    assert "[-1350, 150], [-100, 900], [-160, 240]" in model_page(card, "someone/chest", {})
    assert card_source(tmp_path / "first").input.channel_windows_hu == CHEST

    start = StartSettings(name="first", source=str(tmp_path / "first"))
    _, same = build_network(recipe(table_path, start, SETTINGS), 1, in_channels=3)
    other = Preprocessing(intensity=Window.named("lung"))
    _, differing = build_network(recipe(table_path, start, other), 1, in_channels=1)
    assert same is not None
    assert differing is not None
    assert not [note for note in same.report.notes if note.startswith(f"{NOTE}intensity")]
    notes = [note for note in differing.report.notes if note.startswith(f"{NOTE}intensity")]
    assert "-160 to 240 HU, a channel each" in notes[0]
    assert "the window here is -1350 to 150 HU" in notes[0]


def test_the_store_knows_channels_and_each_scans_own_spacing(table_path: Path) -> None:
    table = read_table(table_path)
    free = Preprocessing.from_dict(SETTINGS.to_dict() | {"size_voxels": [None, 16, 16]})
    prepared = VolumeStore(table_path.parent / "store").prepare(table, free)
    # s4, in the middle of nine: 14 slices of 2 mm; 24 pixels of 0.68 mm are 20 of 0.816 mm.
    assert prepared.shape("s4") == (3, 14, 16, 16)
    assert prepared.shape("s8")[1] == 27
    assert prepared.spacing_mm == pytest.approx((2.0, 0.816, 0.816))
    assert prepared.background == 0.0
    assert prepared.common_shape is None


def test_a_scan_of_several_channels_is_a_fault_of_the_case(tmp_path: Path) -> None:
    two = Volume(np.zeros((2, 4, 20, 20), dtype=np.int16), Affine.from_spacing((1, 1, 1)))
    write_volume(two, tmp_path / "two.nii.gz")
    (tmp_path / "table.csv").write_text("case_id,patient_id,image\na,a,two.nii.gz\n")
    table = read_table(tmp_path / "table.csv")
    with pytest.raises(StoreError, match=r"case 'a': .*two\.nii\.gz has 2 channels"):
        VolumeStore(tmp_path / "store").prepare(table, SETTINGS)

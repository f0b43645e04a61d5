"""Recipes of segmentations from a table of masks: the settings of SuPreM, and the verb."""

import json

import pytest
from typer.testing import CliRunner

from voxgraft.cli.main import app
from voxgraft.datasets import join_tables, write_table
from voxgraft.errors import RecipeError, TableError, UsageError
from voxgraft.recipes import recipe_from_dict, segmentation_recipe
from voxgraft.synthesis import write_anatomies
from voxgraft.training.schedule import learning_rate_at

SMALL = {"size_voxels": (8, 10, 10), "spacing_mm": 30.0}


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> str:
    """Two data sets as one; the pancreas is annotated in the other's test case alone."""
    root = tmp_path_factory.mktemp("sets")
    first = write_anatomies(root / "a", [0, 1], annotated=("liver", "spleen"), **SMALL)
    second = write_anatomies(root / "b", [2, 3], annotated=("aorta", "liver", "pancreas"), **SMALL)
    first = first.with_column("split", ["train", "validation"])
    second = second.with_column("split", ["train", "test"])
    second = second.with_column("annotated", ["aorta liver", "pancreas"])
    join_tables([first, second], root / "all.csv", names=["a", "b"])
    return str(root / "all.csv")


def test_pretraining_is_as_published(table):
    recipe = recipe_from_dict(segmentation_recipe(table, "segresnet_16"), "here")
    assert recipe.target.classes == ("liver", "spleen", "aorta")
    assert recipe.preprocessing.fixed_spacing_mm == (1.5, 1.5, 1.5)
    assert recipe.preprocessing.intensity.bounds_hu == (-175.0, 250.0)
    assert recipe.crops == (96, 96, 96)
    assert recipe.segmentation.overlapping
    assert recipe.segmentation.foreground == pytest.approx(2 / 3)
    assert recipe.augmentation.intensity_shift_probability == 0.2
    assert recipe.score_splits == ("validation", "test")
    optimization = recipe.optimization.resolved(8)
    assert (optimization.steps, optimization.warmup_steps) == (1600, 40)
    assert learning_rate_at(40, optimization, 0) == pytest.approx(1e-3)
    assert learning_rate_at(1599, optimization, 0) < 1e-8
    assert recipe.build_task().outputs == 3


def test_fine_tuning_is_as_published(table):
    made = segmentation_recipe(table, "segresnet_16", classes=["spleen"], fine_tuning=True)
    recipe = recipe_from_dict(made, "here")
    assert recipe.preprocessing.intensity.bounds_hu == (-250.0, 250.0)
    assert not recipe.segmentation.overlapping
    assert recipe.build_task().outputs == 2
    optimization = recipe.optimization.resolved(4)
    assert (optimization.steps, optimization.warmup_steps, optimization.eval_every) == (804, 80, 40)
    assert optimization.learning_rate == 1e-4


def test_structures_that_are_not_there_are_named(table, tmp_path):
    with pytest.raises(TableError, match=r"no case annotates 'brain'; annotated are liver"):
        segmentation_recipe(table, "segresnet_16", classes=["liver", "brain"])
    bare = tmp_path / "bare.csv"
    bare.write_text("case_id,patient_id,image\n1,1,1.nii.gz\n")
    with pytest.raises(TableError, match="has no column 'masks'"):
        segmentation_recipe(str(bare), "segresnet_16")


def test_a_table_without_validation_still_says_what_is_missing(tmp_path):
    table = write_anatomies(tmp_path / "a", [0, 1], annotated=("liver",), **SMALL)
    write_table(table, tmp_path / "t.csv")
    recipe = segmentation_recipe(str(tmp_path / "t.csv"), "segresnet_8")
    assert recipe["score_splits"] == ["validation"]
    assert recipe["target"]["classes"] == ["liver"]


def test_the_verb_takes_classes_and_settings(table, tmp_path):
    words = ["pretrain", "--table", table, "--segmentation", "--model", "segresnet_8"]
    words += ["--classes", "liver,aorta", "--out", str(tmp_path / "run")]
    words += ["--set", "crop_size_voxels=[8,8,8]", "--dry-run", "--json"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    recipe = json.loads(done.stdout)["recipe"]
    assert recipe["target"]["classes"] == ["liver", "aorta"]
    assert recipe["crop_size_voxels"] == [8, 8, 8]
    assert recipe["table"] == table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--table", "t.csv", "--segmentation", "--target", "x"], "no --target"),
        (["--videos", "v", "--segmentation"], "needs --table"),
        (["--table", "t.csv", "--target", "x", "--classes", "liver"], "needs --segmentation"),
        (["--table", "t.csv"], "or --segmentation"),
    ],
)
def test_words_that_do_not_go_together(words, message):
    with pytest.raises(UsageError, match=message):
        CliRunner().invoke(
            app,
            ["pretrain", *words, "--model", "segresnet_8", "--out", "o"],
            catch_exceptions=False,
        )


def test_a_start_may_be_called_by_its_source(table):
    data = segmentation_recipe(str(table), "segresnet_8", classes=["liver"])
    data["start"] = {"source": "runs/first", "parts": "encoder"}
    start = recipe_from_dict(data, "here").start
    assert (start.name, start.source, start.parts) == ("runs/first", "runs/first", "encoder")
    del data["start"]
    with pytest.raises(RecipeError, match=r"start: missing, expected .*`voxgraft sources`"):
        recipe_from_dict(data, "here")

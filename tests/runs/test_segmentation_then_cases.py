"""A finished segmentation as the start of a classification and of a regression, end to end."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from voxgraft.datasets import write_table
from voxgraft.files import read_json
from voxgraft.recipes import recipe_from_dict
from voxgraft.runs import begin_run, execute, execute_run, load_trained

TARGETS = {
    "classification": {"kind": "binary", "columns": ["sick"], "classes": ["no", "yes"]},
    "regression": {"kind": "regression", "columns": ["age"], "unit": "years"},
}


@pytest.fixture(scope="module")
def patients(bodies):
    """The bodies with a diagnosis and an age; each split has both diagnoses."""
    split = ["train"] * 4 + ["validation"] * 2 + ["test"]
    table = bodies.with_column("sick", ["no", "yes"] * 3 + ["no"])
    table = table.with_column("age", [str(40 + 3 * n) for n in range(7)])
    return write_table(table.with_column("split", split), bodies.root / "patients.csv")


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("adapt", ["full", "frozen"])
def test_its_encoder_is_the_start_bit_by_bit(
    kind, adapt, segmentation, patients, tmp_path, monkeypatch
):
    start = {"name": "own", "source": str(segmentation.folder), "adapt": adapt}
    recipe = recipe_from_dict(
        {
            "table": str(patients.path),
            "target": TARGETS[kind],
            "metric": "mae" if kind == "regression" else "auroc",
            "preprocessing": segmentation.recipe.preprocessing.to_dict(),
            "augmentation": {},
            "model": "segresnet_8",
            "start": start | {"parts": "encoder"},
            "optimization": {"steps": 2, "batch_size": 2, "eval_every": 1, "threads": 1},
            "memory_format": "contiguous",
            "score_splits": ["validation"],
            "store": segmentation.recipe.store,
        },
        "the test",
    )
    seen = {}
    fit = execute.fit

    def fit_seen(network, *given, **settings):
        seen.update({name: value.clone() for name, value in network.state_dict().items()})
        return fit(network, *given, **settings)

    monkeypatch.setattr(execute, "fit", fit_seen)
    begin_run(tmp_path / "run", recipe)
    result = execute_run(tmp_path / "run")
    assert result["status"] == "finished"
    source = load_file(segmentation.folder / "model.safetensors")
    encoder = {name: value for name, value in source.items() if name.startswith("encoder.")}
    assert len(encoder) > 20
    assert all(torch.equal(seen[name], value) for name, value in encoder.items())
    assert {name for name in seen if name.startswith("encoder.")} == set(encoder)
    card = load_file(segmentation.folder / "model.safetensors")
    trained = load_file(tmp_path / "run" / "model.safetensors")
    assert {name.split(".")[0] for name in trained} == {"encoder", "head"}
    moved = {name for name in encoder if not torch.equal(trained[name], card[name])}
    assert bool(moved) == (adapt == "full")
    report = read_json(tmp_path / "run" / "graft.json")
    assert {each["name"].split(".")[0] for each in report["dropped"]} <= {"decoder", "head"}
    assert not report["unexplained"]
    scores = pd.read_parquet(tmp_path / "run" / "predictions.parquet")["score_0"]
    assert np.isfinite(scores).all()
    assert load_trained(tmp_path / "run").recipe.target.kind == recipe.target.kind

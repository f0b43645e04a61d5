"""The study of Li et al. (2024) as a plan: which start segments new structures with few labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from voxgraft.comparison.plan import Size, SplitSettings, Stage
from voxgraft.comparison.suprem_groups import GROUPS
from voxgraft.datasets import Table, Target, read_table, split_table, structure_names
from voxgraft.errors import RecipeError
from voxgraft.recipes import segmentation_recipe
from voxgraft.types import Json

NETWORKS = ("swin_unetr_48", "genesis_unet", "segresnet_16")
"""The networks of the paper."""

STARTS: dict[str, dict[str, str]] = {
    "self_supervised": {
        "swin_unetr_48": "swin_unetr_48.ssl_5050",
        "genesis_unet": "genesis_unet.chest_ct",
        "swin_unetr_v2_48": "swin_unetr_v2_48.voco_ssl",
        "nnunet_resenc_3d": "nnunet_resenc.openmind_mae",
        "segresnet_ds_batch_32": "segresnet_ds_batch_32.ct_fm",
    },
    "self_supervised_50k": {"swin_unetr_48": "swin_unetr_48.ssl_50k"},
    "universal": {
        "swin_unetr_48": "swin_unetr_48.universal",
        "genesis_unet": "genesis_unet.universal",
    },
    "supervised": {
        "swin_unetr_48": "swin_unetr_48.suprem",
        "genesis_unet": "genesis_unet.suprem",
        "segresnet_16": "segresnet_16.suprem",
        "swin_unetr_v2_48": "swin_unetr_v2_48.voco_omni",
    },
}
"""Each start to its source on each network, those beyond the paper's included: without labels
Tang's (5,050 CT), Models Genesis, 50,000 scans, VoCo, OpenMind's (MRI) and CT-FM; with labels the
Universal Model, SuPreM and VoComni."""

SIZES: tuple[Size, ...] = (5, 10, 20, 64, 128, 256, 512, 1024)
PRETRAINING_SIZES: tuple[Size, ...] = (21, 64, 256, 1024, "all")
RATES = (1e-4, 3e-4, 1e-3)
_SEARCHED_AT = 20
_DIFFERS = (
    "Differs from the paper (docs/suprem.md says why): the learning rate is chosen for each start "
    "and network, with the same budget; patients are split, not scans; weights are chosen by the "
    "structures' mean Dice on validation cases; several seeds, each with its own training patients."
)
_SPLIT = SplitSettings(fractions=(0.86, 0.05, 0.09))


def suprem(
    table: str,
    *,
    group: str | None = None,
    classes: Sequence[str] | None = None,
    dataset: str | None = None,
    networks: Sequence[str] | None = None,
    starts: Sequence[str] | None = None,
    sources: Mapping[str, Mapping[str, str]] | None = None,
    sizes: Sequence[Size] = SIZES,
    pretraining_table: str | None = None,
    pretraining_classes: Sequence[str] | None = None,
    pretraining_sizes: Sequence[Size] = PRETRAINING_SIZES,
    small: bool = False,
) -> Json:
    """Return the plan of the study, as plain data that ``plan_from_dict`` reads.

    Three networks from scratch and from public starts, without labels and with, at few-shot sizes
    that hold each other; with a table to pre-train on, also starts of its own, one a number of its
    cases. docs/suprem.md lists what the paper did otherwise and why it differs here.

    Expected: no run of this plan on the real data has been made here (neither TotalSegmentator nor
    the published files could be had).

    Args:
        table: Scans with masks: ``voxgraft data import totalsegmentator`` makes it.
        group: Of TotalSegmentator's structures: ``organs``, ``vertebrae``, ``cardiac``,
            ``muscles`` or ``ribs``; organs if no classes are given.
        classes: Structures to segment, instead of a group.
        dataset: Public data set that the scans are of, for the overlap audit; a group is of
            TotalSegmentator.
        networks: The paper's three if None; others of :data:`STARTS` may be named.
        starts: Names of :data:`STARTS`; all that one of the networks has if None.
        sources: Start to network to source, in place of the published file.
        sizes: Training patients; those beyond the table's are cut, and the plan's note says so.
        pretraining_table: Scans with masks, for the start ``pretrained``.
        pretraining_classes: Its structures; all that are annotated if None.
        pretraining_sizes: Its training patients; one start each.
        small: Crops of 32 voxels at 12 mm, two steps, two sizes: to see that everything runs. Its
            numbers mean nothing.

    Raises:
        RecipeError: If a group, network or start is not in the study.
        TableError: If a table cannot be used.

    Source:
        Li et al., How Well Do Supervised 3D Models Transfer to Medical Imaging Tasks?, ICLR 2024
        (arXiv 2501.11253), and its code.
    """
    wanted = tuple(NETWORKS if networks is None else networks)
    _refuse_strangers(group, classes, wanted, starts)
    notes = [_DIFFERS]
    cases = read_table(Path(table))
    names = _classes(cases, group or "organs", notes) if classes is None else list(classes)
    target = _target(names)
    settings = segmentation_recipe(table, wanted[0], classes=names, fine_tuning=True)
    kept = _cut(sizes, _training_patients(cases, target, _SPLIT), "training patients", notes)
    counted = [size for size in kept if isinstance(size, int) and size <= _SEARCHED_AT]
    plan: Json = {
        "title": "Starts for few labels in CT, after Li et al. (2024)",
        "table": table,
        "target": target.to_dict(),
        "dataset": [dataset] if dataset else ["TotalSegmentator"] if classes is None else [],
        "split": {"fractions": list(_SPLIT.fractions), "seed": _SPLIT.seed},
        "models": list(wanted),
        "starts": ["scratch", *_published(wanted, starts, sources or {})],
        "sizes": kept,
        "seeds": 3,
        "keep_weights": "first seed",
        "learning_rate": {"grid": list(RATES), "size": counted[-1] if counted else kept[0]},
    }
    kept_settings = (
        "metric", "preprocessing", "crop_size_voxels", "segmentation", "optimization",
        "augmentation",
    )  # fmt: skip
    plan |= {name: settings[name] for name in kept_settings}
    plan["optimization"] |= {"precision": "bf16" if torch.cuda.is_available() else "no"}
    if pretraining_table is not None:
        stage = _stage(pretraining_table, wanted[0], pretraining_classes, pretraining_sizes, notes)
        stage["optimization"] |= {"precision": plan["optimization"]["precision"]}
        plan["pretraining"] = {"atlas": stage}
        plan["starts"].append({"name": "pretrained", "pretraining": "atlas"})
    plan["note"] = "\n".join(notes)
    return _smaller(plan) if small else plan


def _refuse_strangers(
    group: str | None,
    classes: Sequence[str] | None,
    networks: Sequence[str],
    starts: Sequence[str] | None,
) -> None:
    if group is not None and classes is not None:
        raise RecipeError("give a group or classes, not both.")
    if group is not None and group not in GROUPS:
        raise RecipeError(f"group is {group!r}, expected one of {', '.join(GROUPS)}.")
    known = list(dict.fromkeys([*NETWORKS, *(n for own in STARTS.values() for n in own)]))
    strange = [name for name in networks if name not in known]
    if strange or not networks:
        raise RecipeError(
            f"{', '.join(strange) or 'no network'}: not in the study, which has {', '.join(known)}."
        )
    strange = [name for name in starts or () if name not in STARTS]
    if strange:
        raise RecipeError(
            f"{', '.join(strange)}: not in the study, which has {', '.join(STARTS)} (and scratch)."
        )


def _classes(cases: Table, group: str, notes: list[str]) -> list[str]:
    """Return the structures of a group that a table has; the note names the others."""
    there = set(structure_names(cases))
    names = [name for name in GROUPS[group] if name in there]
    absent = [name for name in GROUPS[group] if name not in there]
    if not names:
        raise RecipeError(
            f"{cases.path} has none of the group {group}: {', '.join(GROUPS[group])}. It has "
            f"{', '.join(sorted(there))}. Name structures with --classes."
        )
    if absent:
        notes.append(
            f"Of the group {group}, the table has no {', '.join(absent)}: the other {len(names)} "
            "are compared."
        )
    return names


def _target(names: Sequence[str]) -> Target:
    return Target(kind="segmentation", columns=("masks",), classes=tuple(names))


def _training_patients(cases: Table, target: Target, split: SplitSettings) -> int:
    """Return the training patients that a table has, or will have once it is split."""
    if "split" not in cases.frame:
        cases = split_table(cases, fractions=split.fractions, seed=split.seed, target=target)
    return len(cases.split("train").patients)


def _cut(sizes: Sequence[Size], most: int, what: str, notes: list[str]) -> list[Size]:
    """Return the sizes that there are patients for, and all in place of larger ones."""
    counts = [size for size in sizes if isinstance(size, int)]
    beyond = [size for size in counts if size > most]
    kept: list[Size] = [size for size in sizes if size not in beyond]
    if beyond or "all" in kept:
        kept = [size for size in kept if size not in (most, "all")] + ["all"]
    if beyond:
        one = len(beyond) == 1
        notes.append(
            f"The table has {most:,} {what}: {', '.join(f'{size:,}' for size in beyond)} "
            f"{'is' if one else 'are'} left out, all {most:,} stand in {'its' if one else 'their'} "
            "place."
        )
    return kept


def _published(
    networks: Sequence[str],
    starts: Sequence[str] | None,
    sources: Mapping[str, Mapping[str, str]],
) -> list[Json]:
    """Return the starts with a public source on one of the networks."""
    found: list[Json] = []
    for name, published in STARTS.items():
        if starts is not None and name not in starts:
            continue
        own = {**published, **sources.get(name, {})}
        known = {network: own[network] for network in networks if network in own}
        if known:
            found.append({"name": name, "source": known})
    return found


def _stage(
    table: str,
    network: str,
    classes: Sequence[str] | None,
    sizes: Sequence[Size],
    notes: list[str],
) -> Json:
    """Return the stage of supervised pre-training, with the settings of SuPreM's own."""
    recipe = segmentation_recipe(table, network, classes=classes)
    cases = read_table(Path(table))
    target = Target(**recipe["target"])
    most = _training_patients(cases, target, Stage(table=table).split)
    kept = (
        "target", "metric", "preprocessing", "crop_size_voxels", "segmentation", "optimization",
        "augmentation",
    )  # fmt: skip
    return {
        "table": table,
        "sizes": _cut(sizes, most, "patients to pre-train on", notes),
        "grid": [recipe["optimization"]["learning_rate"]],
    } | {name: recipe[name] for name in kept}


def _smaller(plan: Json) -> Json:
    """Return the plan at a size that two cores go through in minutes."""
    plan["title"] += ", small"
    plan["note"] = "\n".join(
        [plan["note"], "A small version, to see that everything runs: its numbers mean nothing."]
    ).strip()
    few: Json = {
        "epochs": None,
        "eval_every_epochs": None,
        "steps": 2,
        "eval_every": 1,
        "batch_size": 1,
        "batchnorm": "never",
        "precision": "no",
    }
    for part in (plan, *plan.get("pretraining", {}).values()):
        part["preprocessing"] |= {"spacing_mm": [12.0, 12.0, 12.0]}
        part["crop_size_voxels"] = [32, 32, 32]
        part["segmentation"] |= {"overlap": 0.0, "validation_overlap": 0.0}
        part["optimization"] |= few
        part["sizes"] = part["sizes"][:2]
    plan["seeds"], plan["keep_weights"] = 1, "none"
    plan["learning_rate"] = {"grid": [1e-3]}
    return plan

"""What an nnU-Net 2 checkpoint says of its own training: spacing, crop, intensities, classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from voxgraft.weights.likeness import Shapes
from voxgraft.weights.nnunet_lists import LAYOUT
from voxgraft.weights.source import BACKGROUND, InputContract, Source, class_faults

_AXES = "SAR"
_REORIENTING = "NibabelIOWithReorient"
_SEG_LAYER = re.compile(r"decoder\.seg_layers\.(\d+)\.weight")
_MOST_PARENTS = 8
_MOST = 1e9


class _UnusableError(Exception):
    """The plans hold something that nnU-Net does not write."""


def own_heads(source: Source, shapes: Shapes) -> Source:
    """Return a source whose head has a layer for each level of the decoder that the file has.

    Args:
        source: A file in nnU-Net's layout; any other is returned as it is.
        shapes: Name and shape of each of the file's tensors.
    """
    levels = sorted(_seg_layers(source, shapes))
    if not levels:
        return source
    others = [name for name in source.head if not name.startswith("decoder.seg_layers.")]
    return replace(source, head=(*(f"decoder.seg_layers.{level}" for level in levels), *others))


def follow_plans(source: Source, settings: Mapping[str, Any], shapes: Shapes) -> Source:
    """Return a source with the input contract and the classes that its own checkpoint states.

    nnU-Net 2 keeps plans and labels of its training beside the weights. Its plans count axes after
    ``transpose_forward``; spacing and crop are told here along the axes of the scan, and ``axes``
    says how the network saw it. Of CT the intensities are cut at two percentiles and standardized
    by the training data's mean and standard deviation.

    Source: nnU-Net 2, ``documentation/explanation_plans_files.md`` and its ``plans_handler``.

    Args:
        source: A file in nnU-Net's layout; any other is returned as it is.
        settings: What the checkpoint has under ``init_args``.
        shapes: Name and shape of each of the file's tensors.
    """
    plans = settings.get("plans")
    if source.key_layout != LAYOUT or not isinstance(plans, dict):
        return source
    name = settings.get("configuration")
    try:
        plan = _configuration(plans, name)
        contract, notes = _contract(plans, plan, source.input)
    except _UnusableError as fault:
        said = f"the plans in the checkpoint cannot be followed: {fault}"
        if said in source.note:  # of a file that was recognized, before it was grafted
            return source
        return replace(source, note="; ".join(filter(None, [source.note, said])))
    notes.insert(0, f"the input contract is that of the checkpoint's own plans ({name})")
    layers = _seg_layers(source, shapes)
    outputs = layers[max(layers)] if layers else 0
    classes = _classes(settings.get("dataset_json"), outputs)
    if outputs and not classes:
        notes.append(f"its labels do not name the {outputs} channels of the head")
    return replace(source, input=contract, classes=classes or source.classes, note="; ".join(notes))


def _seg_layers(source: Source, shapes: Shapes) -> dict[int, int]:
    """Return the channels of the head at each level of the decoder."""
    if source.key_layout != LAYOUT:
        return {}
    found: dict[int, int] = {}
    for name, shape in shapes.items():
        layer = _SEG_LAYER.fullmatch(_bare(name.removeprefix(source.prefix)))
        if layer and shape:
            found[int(layer[1])] = shape[0]
    return found


def _bare(name: str) -> str:
    return re.sub(r"^(?:module\.|_orig_mod\.)*", "", name)


def _configuration(plans: Mapping[str, Any], name: object) -> Mapping[str, Any]:
    """Return a configuration with what it inherits."""
    known = plans.get("configurations")
    whole: dict[str, Any] = {}
    for _ in range(_MOST_PARENTS):
        own = known.get(name) if isinstance(known, dict) and isinstance(name, str) else None
        if not isinstance(own, dict):
            raise _UnusableError(f"there is no configuration {name!r:.60}")
        whole = {**own, **whole}
        name = own.get("inherits_from")
        if name is None:
            return whole
    raise _UnusableError("its configuration inherits without end")


def _contract(
    plans: Mapping[str, Any], plan: Mapping[str, Any], before: InputContract
) -> tuple[InputContract, list[str]]:
    forward = plans.get("transpose_forward", [0, 1, 2])
    if not isinstance(forward, list) or sorted(map(str, forward)) != ["0", "1", "2"]:
        raise _UnusableError(
            f"transpose_forward is {forward!r:.60}, expected 0, 1 and 2 in some order"
        )
    order = [int(axis) for axis in forward]
    # Along axis i of the scan lies that axis of the plan which was axis i before.
    back = [order.index(axis) for axis in range(3)]
    spacing = _numbers(plan.get("spacing"), "spacing")
    size = _numbers(plan.get("patch_size"), "patch_size")
    if any(edge != int(edge) for edge in size):
        raise _UnusableError(f"patch_size is {size}, expected whole numbers")
    axes, evidence = _axes(order, plans.get("image_reader_writer"))
    contract = InputContract(
        channels=before.channels,
        mean=(0.0,) * before.channels,
        sd=(1.0,) * before.channels,
        value_range=(-2.0, 2.0),
        size=tuple(int(size[axis]) for axis in back),
        spacing_mm=(spacing[back[0]], spacing[back[1]], spacing[back[2]]),
        axes=axes,
        axes_evidence=evidence,
    )
    return _with_intensity(contract, plans, plan)


def _numbers(value: object, what: str) -> tuple[float, float, float]:
    given = value if isinstance(value, list | tuple) else ()
    numbers = [_number(entry) for entry in given]
    if len(numbers) != 3 or min(numbers) <= 0:
        raise _UnusableError(f"{what} is {value!r:.60}, expected three numbers above 0")
    return numbers[0], numbers[1], numbers[2]


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MOST:
        return float(value)
    raise _UnusableError(f"{value!r:.60} is no number, or beyond {_MOST:g}")


def _axes(order: Sequence[int], reader: object) -> tuple[str | None, str]:
    """Return how the axes ran in training, and what that is known from."""
    turned = "".join(_AXES[axis] for axis in order)
    if reader == _REORIENTING:
        return turned, f"the plans' reader ({reader}) and transpose_forward {list(order)}"
    own = f"scans were read in their files' own order, the last axis first ({reader!s:.60})"
    if list(order) == [0, 1, 2]:
        return None, f"not known: {own}"
    return turned, f"the plans' transpose_forward {list(order)}; directions as here, for {own}"


def _with_intensity(
    contract: InputContract, plans: Mapping[str, Any], plan: Mapping[str, Any]
) -> tuple[InputContract, list[str]]:
    schemes = plan.get("normalization_schemes")
    count = contract.channels
    if not isinstance(schemes, list) or len(schemes) != count:
        raise _UnusableError(
            f"normalization_schemes is {schemes!r:.60}, expected one for each of {count} channels"
        )
    if all(scheme == "ZScoreNormalization" for scheme in schemes):
        return replace(contract, z_score=True), []
    if all(scheme == "RescaleTo01Normalization" for scheme in schemes):
        return replace(contract, value_range=(0.0, 1.0)), []
    if all(scheme == "CTNormalization" for scheme in schemes):
        known = plans.get("foreground_intensity_properties_per_channel")
        facts = [_tissue(known, channel) for channel in range(count)]
        windows = {window for window, _, _ in facts}
        if len(windows) == 1:
            window = facts[0][0]
            mean, sd = (tuple(fact[place] for fact in facts) for place in (1, 2))
            given = {"mean": mean, "sd": sd, "value_range": window, "window_hu": window}
            return replace(contract, **given), []  # type: ignore[arg-type]
        shown = "CTNormalization with other percentiles in each channel"
    else:
        shown = ", ".join(f"{scheme!s:.60}" for scheme in schemes)
    return contract, [f"its normalization is {shown}: bring the intensities to that yourself"]


def _tissue(known: object, channel: int) -> tuple[tuple[float, float], float, float]:
    """Return percentiles, mean and standard deviation of a channel's annotated voxels."""
    facts = known.get(str(channel), known.get(channel)) if isinstance(known, dict) else None
    if not isinstance(facts, dict):
        raise _UnusableError(f"there are no intensity properties of channel {channel}")
    low, high, mean, sd = (
        _number(facts.get(key)) for key in ("percentile_00_5", "percentile_99_5", "mean", "std")
    )
    if low >= high or sd <= 0:
        raise _UnusableError(
            f"channel {channel} has the percentiles {low:g} and {high:g} and the standard "
            f"deviation {sd:g}"
        )
    return (low, high), mean, sd


def _classes(dataset: object, outputs: int) -> tuple[str, ...]:
    """Return the name of each channel of the head; nothing where the labels do not say so.

    Labels are numbers, through one softmax with the background; or regions of several numbers,
    each through a sigmoid.
    """
    labels = dataset.get("labels") if isinstance(dataset, dict) else None
    if not isinstance(labels, dict) or not all(isinstance(name, str) for name in labels):
        return ()
    known = {
        name: tuple(value) if isinstance(value, list | tuple) else (value,)
        for name, value in labels.items()
        if name != "ignore"
    }
    if not all(type(number) is int for value in known.values() for number in value):
        return ()
    if any(len(value) > 1 for value in known.values()):
        names = tuple(name for name, value in known.items() if value != (0,))
    else:
        ordered = sorted(known, key=lambda name: known[name])
        if [known[name] for name in ordered] != [(place,) for place in range(len(ordered))]:
            return ()
        names = (BACKGROUND, *ordered[1:])
    return names if len(names) == outputs and not class_faults(names) else ()

"""Outputs of a trained network by name: classes, labels, or the value."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from voxgraft.datasets import Target
from voxgraft.errors import InferenceError


def output_names(target: Target) -> tuple[str, ...]:
    """Return what each output of a network is called: its class, its label, or its column.

    A binary target has one output, that of its second class.
    """
    if target.kind == "multiclass":
        return tuple(target.classes)
    return (target.classes[1],) if target.kind == "binary" else tuple(target.columns)


def output_label(target: Target, output: int) -> str:
    """Return what the score of an output is called in a picture: ``P(class)``, or with its unit."""
    name = output_names(target)[output]
    if target.kind != "regression":
        return f"P({name})"
    return f"{name} ({target.unit})" if target.unit else name


def find_output(target: Target, name: str) -> int:
    """Return which output has a name.

    Raises:
        InferenceError: If none has.
    """
    names = output_names(target)
    if name not in names:
        raise InferenceError(
            f"no output is called {name!r}; this run has {', '.join(map(repr, names))}. Give one "
            "of them, or leave the choice out."
        )
    return names.index(name)


def likely_output(target: Target, scores: Float[np.ndarray, " k"]) -> int:
    """Return the output to explain where none is named: the class or label that is likeliest.

    Of a binary target or a regression that is the only one.
    """
    return int(scores.argmax()) if target.kind in ("multiclass", "multilabel") else 0

"""The account of a graft: what became of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from voxgraft.errors import GraftError
from voxgraft.types import Json


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far the grafted network's features are from those of the original."""

    max_abs_error: float | None
    """Largest absolute difference; None if it was not measured."""
    tolerance: float
    """Largest relative error allowed."""
    where: str
    """What was compared, on which input."""
    relative_error: float | None = None
    """``max_abs_error`` over the largest absolute value of the original's features."""

    def to_dict(self) -> Json:
        """Return the measurement as JSON."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


NOT_CHECKED = Parity(max_abs_error=None, tolerance=1e-4, where="not checked")


@dataclass(frozen=True, kw_only=True)
class GraftReport:
    """Verdict on every tensor of a source and of a model.

    ``loaded`` and ``adapted`` together with ``fresh`` name every tensor of the model once;
    ``from`` in them and ``dropped`` together name every tensor of the source once.
    """

    source: str
    model: str
    method: str
    coverage: float
    """Parameters loaded or adapted, over the model's parameters; buffers are not counted."""
    loaded: tuple[Mapping[str, str], ...]
    """Values as in the source: ``{"name", "from"}``."""
    adapted: tuple[Mapping[str, str], ...]
    """Values changed on the way: ``{"name", "from", "how"}``."""
    fresh: tuple[Mapping[str, str], ...]
    """Left as the model initialised them: ``{"name", "because"}``."""
    dropped: tuple[Mapping[str, str], ...]
    """Tensors of the source that are not used: ``{"name", "because"}``."""
    unexplained: tuple[str, ...] = ()
    """Always empty in a graft that went through; anything here raises."""
    parity: Parity = NOT_CHECKED
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Number of values: ``model, loaded, adapted, fresh, dropped``."""
    buffers: Mapping[str, int] = field(default_factory=dict)
    """Number of buffers (tensors) of the model: ``model, loaded, adapted, fresh``."""
    coverage_by_stage: Mapping[str, float] = field(default_factory=dict)
    stem: str = ""
    """How RGB became the model's channels; empty if it had nothing to do."""
    norm: str = "keep"
    depth_padding: str = "zeros"
    origin: str = ""
    """How the identity of the source was checked."""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> Json:
        """Return the report as JSON."""
        plain: Json = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in ("loaded", "adapted", "fresh", "dropped"):
            plain[name] = [dict(verdict) for verdict in plain[name]]
        for name in ("unexplained", "notes"):
            plain[name] = list(plain[name])
        for name in ("parameters", "buffers", "coverage_by_stage"):
            plain[name] = dict(plain[name])
        plain["parity"] = self.parity.to_dict()
        return plain

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> GraftReport:
        """Make a report of what :meth:`to_dict` gave, also after a trip through JSON.

        Raises:
            GraftError: If a field is missing, unknown or of another kind.
        """
        try:
            plain = dict(entry)
            plain["parity"] = Parity(**plain["parity"])
            for name in ("loaded", "adapted", "fresh", "dropped", "unexplained", "notes"):
                plain[name] = tuple(plain.get(name, ()))
            return cls(**plain)
        except (KeyError, TypeError, AttributeError, ValueError) as fault:
            raise GraftError(
                f"a graft report cannot be read: {fault!r}. Expected the fields that "
                "GraftReport.to_dict writes."
            ) from fault

    def summary(self) -> str:
        """Return the report in a few lines for a person."""
        counts = self.parameters
        lines = [
            f"{self.source} → {self.model} ({self.method})",
            f"  coverage   {self.coverage:.1%} of {counts.get('model', 0):,} parameters",
            f"  loaded     {len(self.loaded)} tensors, {counts.get('loaded', 0):,} parameters",
            f"  adapted    {len(self.adapted)} tensors, {counts.get('adapted', 0):,} parameters",
            f"  fresh      {len(self.fresh)} tensors, {counts.get('fresh', 0):,} parameters",
            f"  dropped    {len(self.dropped)} tensors, {counts.get('dropped', 0):,} parameters",
            f"  parity     {_parity_words(self.parity)}",
        ]
        reasons = {verdict["because"] for verdict in (*self.fresh, *self.dropped)}
        lines += [f"  because    {reason}" for reason in sorted(reasons)]
        if self.origin:
            lines.append(f"  origin     {self.origin}")
        lines += [f"  note       {note}" for note in self.notes]
        return "\n".join(lines)


def _parity_words(parity: Parity) -> str:
    if parity.max_abs_error is None:
        return parity.where
    relative = "" if parity.relative_error is None else f" ({parity.relative_error:.1e} relative)"
    return (
        f"{parity.max_abs_error:.1e} largest difference{relative}, "
        f"{parity.tolerance:.0e} allowed; {parity.where}"
    )

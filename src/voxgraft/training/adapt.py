"""How a start is used: which parameters move, when, and how fast."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from voxgraft.errors import RecipeError, raise_faults
from voxgraft.training.lora import add_adapters, merge_adapters
from voxgraft.training.optimization import Optimization
from voxgraft.training.schedule import stream_seed
from voxgraft.training.stages import network_stages, with_head

Method = Literal["full", "frozen", "layerwise", "gradual", "lora", "probe"]


@dataclass(frozen=True, kw_only=True)
class Adapt:
    """How a start is used; a setting of another method than the chosen one is refused.

    Raises:
        RecipeError: If a value is impossible; all faults are named at once.
    """

    method: Method = "full"
    """``full`` trains everything; ``frozen`` only the head (of a segmentation, decoder and head);
    ``layerwise`` everything, deeper stages slower (of a segmentation, from the head through the
    levels of a decoder that came from the start, fine to coarse, and then through the encoder,
    deep to shallow; a fresh decoder has the head's rate); ``gradual`` thaws stages from the head
    downwards; ``lora`` low-rank adapters and the head; ``probe`` fits a linear head on features
    computed once."""
    decay: float | None = None
    """``layerwise``: factor of the learning rate from each stage to the one before (0.75)."""
    until: float | None = None
    """``gradual``: fraction of the steps after which everything trains (0.5)."""
    rank: int | None = None
    """``lora``: rank of the adapters (8)."""
    alpha: float | None = None
    """``lora``: the update's factor is ``alpha / rank`` (16)."""
    strengths: tuple[float, ...] | None = None
    """``probe``: L2 strengths to choose from on the validation cases (1e-4 to 1e2)."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        faults = []
        if self.method not in _DEFAULTS:
            faults.append(f"method is {self.method!r}, expected one of {list(_DEFAULTS)}")
        for name, (method, fits, expected) in _RULES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if self.method in _DEFAULTS and method != self.method:
                faults.append(f"{name} belongs to method {method!r}, found {self.method!r}")
            values = value if isinstance(value, tuple) else (value,)
            numbers = all(
                isinstance(item, int | float) and not isinstance(item, bool) for item in values
            )
            if not (values and numbers and all(map(fits, values))):
                faults.append(f"{name} is {value!r}, expected {expected}")
        if faults:
            raise_faults(
                RecipeError,
                "these settings of how the start is used are impossible",
                faults,
                "Mend them in the recipe's section `adapt` (or with --set).",
            )

    def setting(self, name: str) -> Any:
        """Return a setting of the method: the given value, or the method's default."""
        value = getattr(self, name)
        return _DEFAULTS[self.method][name] if value is None else value


_DEFAULTS: dict[str, dict[str, Any]] = {
    "full": {},
    "frozen": {},
    "layerwise": {"decay": 0.75},
    "gradual": {"until": 0.5},
    "lora": {"rank": 8, "alpha": 16.0},
    "probe": {"strengths": (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)},
}
_RULES: dict[str, tuple[str, Any, str]] = {
    "decay": ("layerwise", lambda value: 0.0 < value <= 1.0, "a number above 0, at most 1"),
    "until": ("gradual", lambda value: 0.0 < value <= 1.0, "a number above 0, at most 1"),
    "rank": (
        "lora",
        lambda value: isinstance(value, int) and value >= 1,
        "a whole number of at least 1",
    ),
    "alpha": ("lora", lambda value: 0.0 < value < float("inf"), "a number above 0"),
    "strengths": (
        "probe",
        lambda value: 0.0 < value < float("inf"),
        "one or more numbers above 0",
    ),
}


class Adaptation:
    """The trainable set of one network, as a function of the step."""

    def __init__(
        self,
        adapt: Adapt,
        network: nn.Module,
        steps: int,
        seed: int,
        loaded: Collection[str] = (),
    ) -> None:
        """Prepare a network, in place; low-rank adapters are added here.

        Args:
            adapt: How the start is used; any method but ``probe``.
            network: A network with the children ``encoder`` and ``head``.
            steps: Steps of the training.
            seed: Seed of the training.
            loaded: Names of a decoder's parameters that came from the start: for ``layerwise``,
                its levels are then stages as the encoder's are.
        """
        self.adapt = adapt
        self.adapted_layers: list[str] = []
        if adapt.method == "lora":
            encoder = network.get_submodule("encoder")
            self.adapted_layers = add_adapters(
                encoder,
                adapt.setting("rank"),
                adapt.setting("alpha"),
                stream_seed(seed, 0, "lora"),
                apart=with_head(encoder),
            )
        self._stages = network_stages(network, loaded if adapt.method == "layerwise" else ())
        self._steps = steps
        self._unchanging = frozenset(
            name
            for name, parameter in network.named_parameters()
            if adapt.method == "lora"
            and name.startswith("encoder.")
            and not parameter.requires_grad
        )

    def thaw_steps(self) -> dict[str, int | None]:
        """Return for each stage the step from which it trains; None for never."""
        *encoder, head = [stage.name for stage in self._stages]
        if self.adapt.method == "frozen":
            return {**dict.fromkeys(encoder, None), head: 0}
        if self.adapt.method != "gradual":
            return dict.fromkeys([*encoder, head], 0)
        span = self.adapt.setting("until") * self._steps / max(1, len(encoder))
        thawed: dict[str, int | None] = {
            name: round(span * (number + 1)) for number, name in enumerate(reversed(encoder))
        }
        return {**thawed, head: 0}

    def trainable(self, step: int) -> frozenset[str]:
        """Return the names of the parameters that the update from ``step`` may move."""
        thaw = self.thaw_steps()
        names: set[str] = set()
        for stage in self._stages:
            start = thaw[stage.name]
            if start is not None and step >= start:
                names.update(stage.parameters)
        return frozenset(names - self._unchanging)

    def set_trainable(self, network: nn.Module, step: int) -> None:
        """Let gradients flow to the trainable set of this step, and to nothing else."""
        trainable = self.trainable(step)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in trainable)
            if name not in trainable:
                parameter.grad = None

    def parameter_groups(
        self, network: nn.Module, optimization: Optimization
    ) -> list[dict[str, Any]]:
        """Return the optimizer's groups: all parameters that train at any step.

        Vectors and scalars (biases, norms, layer scales) have no weight decay. ``lr_scale`` is
        the factor on the scheduled learning rate: 1 but for ``layerwise``, where a stage ``k``
        places below the head has ``decay ** k``.

        Source:
            arXiv:1801.06146, section 3.2 (discriminative rates), with the fixed factor a stage of
            arXiv:2003.10555, section 3.1. A fresh decoder at the head's rate is what BEiT
            (arXiv:2106.08254) does in segmentation; levels of a loaded one as stages are ours.
        """
        parameters = dict(network.named_parameters())
        ever = self.trainable(self._steps)
        groups: dict[tuple[float, float], dict[str, Any]] = {}
        for below_head, stage in enumerate(reversed(self._stages)):
            scale = 1.0
            if self.adapt.method == "layerwise":
                scale = float(self.adapt.setting("decay")) ** below_head
            for name in stage.parameters:
                if name not in ever:
                    continue
                decay = optimization.weight_decay if parameters[name].ndim >= 2 else 0.0
                group = groups.setdefault(
                    (scale, decay),
                    {"params": [], "names": [], "weight_decay": decay, "lr_scale": scale},
                )
                group["params"].append(parameters[name])
                group["names"].append(name)
        return list(groups.values())

    def finish(self, network: nn.Module) -> None:
        """Make the network plain again: adapters merged, every parameter trainable."""
        merge_adapters(network)
        for parameter in network.parameters():
            parameter.requires_grad_(True)


def set_training_modes(network: nn.Module) -> None:
    """Put in training mode what trains; a part without trainable parameters stays in eval mode.

    So a frozen BatchNorm keeps its running statistics, and frozen parts drop nothing out.
    """
    network.train()
    _calm_frozen_children(network)


def _calm_frozen_children(module: nn.Module) -> None:
    for child in module.children():
        parameters = list(child.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            child.eval()
        else:
            _calm_frozen_children(child)

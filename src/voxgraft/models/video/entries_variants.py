"""What the registry says of networks that other programs build otherwise than PyTorchVideo."""

from __future__ import annotations

from functools import partial

from voxgraft.models.entry import ModelEntry
from voxgraft.models.video.slowfast import SlowFastPlan, build_slowfast
from voxgraft.models.video.x3d import X3DPlan, build_x3d

_OPTIONS = frozenset({"depth_padding", "seed"})
_MMACTION = "mmaction.models.backbones.ResNet3dSlowFast"
_PYSLOWFAST = "slowfast.models.video_model_builder.X3D"
_DEEP = (3, 4, 23, 3)

_SLOWFAST = {
    "r50": SlowFastPlan(reference=_MMACTION, plain=True),
    "4x16_r50": SlowFastPlan(reference=_MMACTION, plain=True, step=8, fusion_depth=5),
    "r101": SlowFastPlan(reference=_MMACTION, plain=True, blocks=_DEEP),
    "4x16_r101_r50": SlowFastPlan(
        reference=_MMACTION,
        plain=True,
        step=8,
        fusion_depth=5,
        blocks=_DEEP,
        fast_blocks=(3, 4, 6, 3),
    ),
}


def _slowfast(name: str) -> ModelEntry:
    plan = _SLOWFAST[name]
    return ModelEntry(
        name=f"slowfast_plain_{name}",
        description=f"SlowFast as mmaction2 builds it: plain connections, the first slice of each "
        f"{plan.step} for the slow pathway",
        family="slowfast",
        build=partial(build_slowfast, plan),
        options=_OPTIONS,
        native="video",
        reference=plan.reference,
    )


def _x3d(size: str) -> ModelEntry:
    plan = X3DPlan(reference=_PYSLOWFAST, deeper=5.0 if size == "l" else 2.2, normalized=True)
    return ModelEntry(
        name=f"x3d_normalized_{size}",
        description="X3D as PySlowFast builds it: the first shortcut is normalized too",
        family="x3d",
        build=partial(build_x3d, plan),
        options=_OPTIONS,
        native="video",
        reference=plan.reference,
    )


ENTRIES: tuple[ModelEntry, ...] = (
    *(_slowfast(name) for name in _SLOWFAST),
    _x3d("m"),
    _x3d("l"),
)

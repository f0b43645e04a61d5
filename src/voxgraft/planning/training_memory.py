"""The memory that a training takes: its steps are run without numbers, and counted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from voxgraft.errors import ModelError
from voxgraft.models import SegmentationNetwork, build_encoder, build_segmentation
from voxgraft.models.decoders.build import DecoderKind
from voxgraft.models.decoders.unet import DecoderNorm
from voxgraft.models.orientation import Oriented
from voxgraft.planning.live_memory import LiveMemory
from voxgraft.tasks.segmentation import SegmentationLoss
from voxgraft.tasks.segmentation.loss import crop_loss
from voxgraft.types import Size3

_LOSS_PLANE = 32
"""Edge of the planes on which the loss is measured, in voxels."""
_LOSS_VALUES = (2**19, 2**20)
"""Values of the two crops on which it is measured: several times what it looks at together."""
_DEEPER = 8 / 7
"""What coarser maps add to the finest one, each having half of the voxels along each axis."""


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A segmentation network as it is to be trained."""

    model: str
    classes: int
    """Structures, without background."""
    decoder: DecoderKind
    in_channels: int = 1
    overlapping: bool = False
    loss: SegmentationLoss = "dice_ce"
    deep_supervision: bool = False
    decoder_norm: DecoderNorm = "instance"
    decoder_width: int = 32
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the encoder."""

    @property
    def outputs(self) -> int:
        """Channels of the head."""
        return self.classes if self.overlapping else self.classes + 1

    def build(self) -> SegmentationNetwork:
        """Build the network with shapes alone, on PyTorch's device ``meta``.

        Raises:
            RegistryError: If no network has that name.
            ModelError: If it cannot be built with these settings.
        """
        with torch.device("meta"):
            encoder = build_encoder(self.model, in_channels=self.in_channels, **self.options)
        return build_segmentation(
            encoder,
            self.outputs,
            decoder=self.decoder,
            decoder_norm=self.decoder_norm,
            decoder_width=self.decoder_width,
            deep_supervision=self.deep_supervision,
        )


class TrainingMemory:
    """What the training of one network takes, by the size of crops and batches.

    A step (forward, backward, in mixed precision or with gradient checkpointing) is run by
    PyTorch's fake tensors, which have shapes and no numbers: each storage counts from its birth to
    its end, so that what autograd keeps, gradients and passing maps are all in the peak. The loss
    and its gradient are measured with real numbers on small crops, and grow with the voxels. The
    two moments of AdamW are added. What kernels take for themselves while they run (cuDNN's
    workspaces) and what an allocator leaves between blocks is not in it: a budget keeps a margin
    for that.
    """

    def __init__(self, trained: TrainedNetwork) -> None:
        """Build the network without numbers.

        Raises:
            RegistryError: If no network has that name.
            ModelError: If it cannot be built with these settings.
        """
        self.trained = trained
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.network = trained.build()
        """The network, without numbers."""
        self._known: dict[object, int] = {}
        self.parameters = sum(each.numel() for each in self.network.parameters())
        """Number of the network's parameters."""
        facts = self.network.encoder.declaration
        self.positions = bool(facts.positions)
        """Whether the network has tables of positions, which are interpolated for other sizes."""
        self.turns = isinstance(self.network.encoder, Oriented)
        """Whether the network turns volumes as its weights saw them."""
        self.checkpoints = facts.gradient_checkpointing
        """Whether gradient checkpointing has an effect."""
        self.min_size: Size3 = facts.min_size
        """Smallest volume that the encoder takes, in voxels."""
        steps = [math.lcm(*(stride[axis] for stride in facts.strides)) for axis in range(3)]
        self.steps: Size3 = (steps[0], steps[1], steps[2])
        """What the sizes of crops are multiples of, (depth, height, width)."""
        self.batchnorm = any(
            isinstance(each, nn.modules.batchnorm._BatchNorm) for each in self.network.modules()
        )
        """Whether the network normalizes over its batches, which one crop is too small for."""
        with self._fake:
            self.network.to_empty(device="cpu")
        self._loss_bytes = _loss_bytes(trained)

    def padded(self, size: Size3) -> Size3:
        """Return the size, in voxels, to which the network extends a crop; it wastes the margin."""
        return self.network.padded_size(size)

    def training_bytes(
        self, crop: Size3, batch: int, *, bf16: bool = False, checkpointing: bool = False
    ) -> int:
        """Return the peak of a training step.

        Args:
            crop: (depth, height, width), in voxels.
            batch: Crops in one forward pass.
            bf16: Whether the network runs in mixed precision.
            checkpointing: Whether the encoder's activations are computed again.

        Raises:
            ModelError: If the network does not run on crops of this size.
        """
        key = (crop, batch, bf16, checkpointing)
        if key not in self._known:
            self._known[key] = self._step(crop, batch, bf16, checkpointing)
        return self._known[key]

    def inference_bytes(self, crop: Size3, windows: int) -> int:
        """Return the peak of showing so many windows to the network, in float32.

        Raises:
            ModelError: If the network does not run on windows of this size.
        """
        key = (crop, windows)
        if key not in self._known:
            with self._fake, LiveMemory() as live, torch.no_grad():
                self._begin(live, checkpointing=False)
                self._run(crop, windows)
            self._known[key] = live.peak_bytes
        return self._known[key]

    def _step(self, crop: Size3, batch: int, bf16: bool, checkpointing: bool) -> int:
        with self._fake, LiveMemory() as live:
            self._begin(live, checkpointing)
            weights = live.now_bytes
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                outputs = self._run(crop, batch)
            fixed, each = self._loss_bytes
            at_loss = live.now_bytes + fixed + each * batch * _volume(crop)
            torch.stack([level.float().mean() for level in outputs]).sum().backward()  # type: ignore[no-untyped-call]
            self.network.zero_grad(set_to_none=True)
        moments = 2 * weights
        updating = weights + weights + moments + weights  # weights, gradients, moments, a copy
        peak: int = max(moments + at_loss, moments + live.peak_bytes, updating)
        return peak

    def _begin(self, live: LiveMemory, checkpointing: bool) -> None:
        for tensor in (*self.network.parameters(), *self.network.buffers()):
            live.count(tensor)
        if self.checkpoints:
            self.network.set_gradient_checkpointing(checkpointing)

    def _run(self, crop: Size3, count: int) -> list[Tensor]:
        images = torch.empty(count, self.trained.in_channels, *crop)
        try:
            if self.trained.deep_supervision:
                return self.network.forward_levels(images)
            return [self.network(images)]
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ModelError(
                f"{self.trained.model} does not run on {count} crops of {crop} voxels (depth, "
                f"height, width): {error}. Choose another size of the crops, or another network."
            ) from error


def _loss_bytes(trained: TrainedNetwork) -> tuple[int, int]:
    """Return what the loss and its gradient take at their peak, logits not counted.

    Returns:
        Bytes whatever the crop's size, and bytes for each voxel of the finest map.
    """
    peaks, voxels = [], []
    for values in _LOSS_VALUES:
        depth = max(1, values // (trained.outputs * _LOSS_PLANE**2))
        size = (depth, _LOSS_PLANE, _LOSS_PLANE)
        generator = torch.Generator().manual_seed(0)
        logits = torch.zeros(1, trained.outputs, *size, requires_grad=True)
        labels = torch.randint(
            0, trained.classes + 1, (1, 1, *size), dtype=torch.int16, generator=generator
        )
        known = torch.ones(1, trained.classes, dtype=torch.bool)
        with LiveMemory() as live:
            live.count(logits)
            given = live.now_bytes
            loss = crop_loss(
                logits, labels, known, kind=trained.loss, overlapping=trained.overlapping
            )
            torch.autograd.grad(loss, logits)
        peaks.append(live.peak_bytes - given)
        voxels.append(_volume(size))
    each = max(0.0, (peaks[1] - peaks[0]) / max(1, voxels[1] - voxels[0]))
    fixed = max(0.0, peaks[0] - each * voxels[0])
    share = _DEEPER if trained.deep_supervision else 1.0
    return math.ceil(fixed), math.ceil(share * each)


def _volume(size: Size3) -> int:
    return math.prod(size)

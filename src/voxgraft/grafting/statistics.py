"""Running statistics held against natural-like input: what no comparison of copies can see.

A file of unknown origin may hold exchanged values in equal shapes, and the original network, loaded
from the same file, would be wrong in the same way. But batch normalization keeps the mean and the
variance of what its layer gave in training. Pictures of the right kind give about the same pattern
over the channels; a wrong kernel before the layer does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from voxgraft.errors import GraftError
from voxgraft.grafting.graft import Graft
from voxgraft.types import Size3
from voxgraft.weights.parity import probe_size
from voxgraft.weights.source import InputContract

_IMAGES = 4
_VOLUMES = 2
_SIDE = 128  # voxels across
_SIDE_VOLUME = 48  # voxels along each axis of a volume
_FEWEST_CHANNELS = 32  # below that, ranks agree or not by chance
_AGREES = 0.35
_DISAGREES = 0.1
_EXCHANGE_GAIN = 0.15


@dataclass(frozen=True)
class LayerAgreement:
    """How a layer's statistics on natural-like input agree with those that it kept."""

    name: str
    channels: int
    variances: float
    """Rank correlation, over the channels, of the variances."""
    means: float
    """Rank correlation, over the channels, of the means."""

    @property
    def best(self) -> float:
        """The better of the two: a right layer agrees in one of them at least."""
        return max(self.variances, self.means)


@dataclass(frozen=True)
class StatisticsCheck:
    """What the check found."""

    layers: tuple[LayerAgreement, ...]
    """Of each batch normalization, in the order in which they run."""
    disagreeing: tuple[str, ...]
    """Layers that agree in nothing, though layers after them do."""
    exchanged: tuple[str, ...]
    """Convolutions whose next layer agrees much better with input and output exchanged."""
    conclusive: bool
    """Whether layers agree at all: False where there is no batch normalization, or where the
    weights were trained on input of quite another kind."""

    @property
    def faults(self) -> tuple[str, ...]:
        """A sentence for each finding."""
        return (
            *(
                f"{name}: mean and variance of its input are unlike the ones that it kept; the "
                "weights before it may be another layer's, or exchanged"
                for name in self.disagreeing
            ),
            *(
                f"{name}: its kernel fits much better with input and output channels exchanged"
                for name in self.exchanged
            ),
        )

    def sentence(self) -> str:
        """Return the finding in words."""
        if not self.layers:
            return "statistics: nothing to compare, the network has no batch normalization"
        if not self.conclusive:
            return (
                "statistics: no conclusion, most layers are unlike on this input; the weights may "
                "have been trained on input of another kind"
            )
        if self.faults:
            return "statistics: gross disagreement. " + "; ".join(self.faults)
        return (
            f"statistics: {len(self.layers)} layers agree with natural-like input. A kernel "
            "that was transposed in its plane alone cannot be seen by this"
        )


def check_statistics(grafted: Graft, *, strict: bool = False) -> StatisticsCheck:
    """Hold the running statistics of a grafted network against natural-like input.

    The input is noise whose amplitude falls with the frequency, as that of photographs does. In
    each batch normalization the batch's mean and variance over the channels are compared, by their
    ranks, with the running ones; and each convolution just before one that has as many input as
    output channels is tried with both exchanged.

    Found are kernels of another layer in equal shapes, and exchanged input and output channels. Not
    found are kernels transposed in their plane: photographs, too, look much the same then.

    Args:
        grafted: The network, on the CPU; its state stays as it is.
        strict: Whether to raise on a gross disagreement.

    Raises:
        GraftError: If ``strict`` and a layer disagrees grossly.
    """
    encoder = grafted.encoder
    training = encoder.training
    declared = encoder.declaration
    image = grafted.source.layout == "image" and not grafted.source.saved
    if image:
        least = declared.min_size
        size = (least[0], max(least[1], _SIDE), max(least[2], _SIDE))
    else:
        size = probe_size(declared.min_size, declared.strides[-1])
        size = (max(size[0], _SIDE_VOLUME), max(size[1], _SIDE_VOLUME), max(size[2], _SIDE_VOLUME))
    volume = natural_noise(size, flat=image)
    contract = grafted.source.input
    volume = _standardized(volume, contract, grafted.input_mean, grafted.input_sd)
    padded = encoder.set_depth_padding("replicate") if image else nullcontext()
    try:
        encoder.eval()
        with padded, torch.no_grad():
            layers, gains = _measure(encoder, lambda: encoder(volume))
    finally:
        encoder.train(training)
    found = _judged(layers, gains)
    if strict and found.faults:
        raise GraftError(
            f"{grafted.model} with the weights of {grafted.source.id!r}: {found.sentence()}. "
            "Fetch the file again from where it was published, or leave the check out if its "
            "weights were trained on input of quite another kind."
        )
    return found


def natural_noise(size: Size3, *, flat: bool, seed: int = 0) -> Float[Tensor, "n 1 d h w"]:
    """Return noise whose amplitude falls as one over the frequency, of mean 0 and sd about 1.

    Args:
        size: (depth, height, width), in voxels.
        flat: Whether volumes are constant along depth (images).
        seed: Of the noise.

    Source:
        D. J. Field, "Relations between the statistics of natural images and the response
        properties of cortical cells", J. Opt. Soc. Am. A 4, 1987: amplitude spectra of images fall
        as 1/f; those of volumes are taken to fall so that their sections do.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = size[1:] if flat else size
    power = torch.zeros(())
    for axis, length in enumerate(shape):
        frequency = torch.fft.fftfreq(length)
        power = (
            power + frequency.view(*(length if a == axis else 1 for a in range(len(shape)))) ** 2
        )
    power.view(-1)[0] = 1.0 / max(shape) ** 2
    axes = tuple(range(-len(shape), 0))
    count = _IMAGES if flat else _VOLUMES
    white = torch.randn(count, 1, *shape, generator=generator)
    spectrum = torch.fft.fftn(white, dim=axes) / power ** (0.5 if flat else 0.75)
    noise = torch.fft.ifftn(spectrum, dim=axes).real
    noise = (noise - noise.mean(axes, keepdim=True)) / noise.std(axes, keepdim=True)
    noise = 0.9 * noise + 0.4 * torch.randn(count, *(1,) * (noise.ndim - 1), generator=generator)
    volume: Tensor = noise
    return volume.unsqueeze(2).expand(-1, -1, size[0], -1, -1).contiguous() if flat else volume


def _standardized(
    noise: Tensor, contract: InputContract, mean: tuple[float, ...], sd: tuple[float, ...]
) -> Tensor:
    """Return the noise as intensities of the source's range, standardized as its input is."""
    low, high = contract.value_range
    values = (low + (high - low) * (0.45 + 0.22 * noise)).clamp(low, high)
    shape = (1, len(mean), 1, 1, 1)
    return (values - torch.tensor(mean).view(shape)) / torch.tensor(sd).view(shape)


def _measure(
    network: nn.Module, run: Callable[[], Any]
) -> tuple[list[LayerAgreement], dict[str, float]]:
    """Run a network once; return each layer's agreement, and what exchanging channels gains."""
    layers: list[LayerAgreement] = []
    gains: dict[str, float] = {}
    last: list[tuple[str, nn.Module, Tensor, Tensor]] = []

    def after(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            if isinstance(output, Tensor) and isinstance(inputs[0], Tensor):
                last[:] = [(name, module, inputs[0], output)]

        return hook

    def before(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            agreement = _agreement(name, module, inputs[0])
            if agreement is None:
                return
            layers.append(agreement)
            if last and last[0][3] is inputs[0]:
                conv, kernel_of, given, _ = last[0]
                turned = _with_channels_exchanged(kernel_of, given)
                other = None if turned is None else _agreement(name, module, turned)
                if other is not None:
                    before_, after_ = (a.variances + a.means for a in (agreement, other))
                    gains[conv] = after_ - before_

        return hook

    with _hooks(network, after, before):
        run()
    return layers, gains


@contextmanager
def _hooks(
    network: nn.Module,
    after: Callable[[str], Callable[..., None]],
    before: Callable[[str], Callable[..., None]],
) -> Iterator[None]:
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm):
            handles.append(module.register_forward_pre_hook(before(name)))
        elif isinstance(module, _ConvNd):
            handles.append(module.register_forward_hook(after(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _with_channels_exchanged(module: nn.Module, given: Tensor) -> Tensor | None:
    """Return a convolution's output with its kernel's input and output channels exchanged."""
    if not isinstance(module, _ConvNd) or module.groups != 1:
        return None
    kernel = module.weight
    if kernel.shape[0] != kernel.shape[1]:
        return None
    module.weight = nn.Parameter(kernel.detach().transpose(0, 1).contiguous(), requires_grad=False)
    try:
        with torch.no_grad():
            output: Tensor = module.forward(given)
    finally:
        module.weight = kernel
    return output


def _agreement(name: str, module: nn.Module, given: Tensor) -> LayerAgreement | None:
    assert isinstance(module, _BatchNorm)
    kept_mean, kept_variance = module.running_mean, module.running_var
    if kept_mean is None or kept_variance is None or len(kept_mean) < _FEWEST_CHANNELS:
        return None
    axes = [axis for axis in range(given.ndim) if axis != 1]
    # Channels that never answered (a variance of next to nothing) have no rank.
    alive = kept_variance > 1e-3 * kept_variance.median()
    if int(alive.sum()) < _FEWEST_CHANNELS:
        return None
    return LayerAgreement(
        name=name,
        channels=int(alive.sum()),
        variances=_rank_correlation(given.var(axes)[alive], kept_variance[alive]),
        means=_rank_correlation(given.mean(axes)[alive], kept_mean[alive]),
    )


def _rank_correlation(a: Tensor, b: Tensor) -> float:
    ranks = torch.stack([a.argsort().argsort(), b.argsort().argsort()]).float()
    return float(torch.corrcoef(ranks)[0, 1])


def _judged(layers: list[LayerAgreement], gains: dict[str, float]) -> StatisticsCheck:
    agreeing = [index for index, layer in enumerate(layers) if layer.best >= _AGREES]
    conclusive = len(agreeing) * 2 > len(layers)
    last = agreeing[-1] if agreeing else -1
    wrong = [
        layer.name for index, layer in enumerate(layers)
        if index < last and layer.best < _DISAGREES
    ]  # fmt: skip
    turned = [name for name, gain in gains.items() if gain > _EXCHANGE_GAIN]
    return StatisticsCheck(
        layers=tuple(layers),
        disagreeing=tuple(wrong) if conclusive else (),
        exchanged=tuple(turned) if conclusive else (),
        conclusive=conclusive,
    )

"""What a starting weight is: where its file comes from and what the file must hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib import resources
from typing import Any, Literal

from voxgraft.errors import SourceError, raise_faults
from voxgraft.packages import PackageFile
from voxgraft.types import Json, Spacing3

Layout = Literal["image", "video", "volume"]
"""What the weights were trained on: 2D images, video clips, or 3D scans."""

UNSTATED = "unstated"
"""Said where nobody published the fact, rather than leaving it out."""

BACKGROUND = "background"
"""Name of the channel of a softmax that is none of the classes; always the first."""


@dataclass(frozen=True, kw_only=True)
class LocalFile:
    """A file on this machine."""

    path: str


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file in a repository of the Hugging Face hub."""

    repository: str
    filename: str
    revision: str = "main"


@dataclass(frozen=True, kw_only=True)
class WebFile:
    """A file at an address."""

    url: str


@dataclass(frozen=True, kw_only=True)
class BroughtFile:
    """A file that a person must bring: behind a form, a drive or a licence."""

    where: str
    """Where it is to be had, in words."""
    filename: str


Origin = PackageFile | HubFile | WebFile | BroughtFile | LocalFile
_ORIGINS: Mapping[str, type[Origin]] = {
    "package": PackageFile,
    "hub": HubFile,
    "web": WebFile,
    "brought": BroughtFile,
    "local": LocalFile,
}


_UPRIGHT = dict(zip("SIAPRL", "SSAARR", strict=True))


@dataclass(frozen=True, kw_only=True)
class InputContract:
    """The images that the weights expect."""

    channels: int
    mean: tuple[float, ...]
    """Subtracted from each channel, after scaling to ``value_range``."""
    sd: tuple[float, ...]
    """Divides each channel after that."""
    value_range: tuple[float, float] = (0.0, 1.0)
    """Range of the intensities before mean and sd."""
    window_hu: tuple[float, float] | None = None
    """Hounsfield units ``(low, high)`` that were mapped to ``value_range``; None if not CT."""
    channel_windows_hu: tuple[tuple[float, float], ...] = ()
    """Such bounds of each channel, where each had a window of its own; ``window_hu`` is None."""
    size: tuple[int, ...] | None = None
    """Size in pixels or voxels that the weights were trained at; None if not fixed."""
    spacing_mm: Spacing3 | None = None
    """Spacing (depth, height, width) of the scans; None where the training had no spacing."""
    z_score: bool = False
    """Whether each scan had its own mean taken away and was divided by its own standard deviation,
    as MRI often is; ``mean`` is then 0, ``sd`` 1 and ``value_range`` what most voxels have."""
    axes: str | None = None
    """Where the first, second and third axis of the volumes ran to in training: ``"RAS"`` (right,
    anterior, superior) or ``"SPL"``, say. Here it is ``"SAR"``. None where it is not known."""
    axes_evidence: str = ""
    """What that is known from; or, where it is not known, why."""

    def __post_init__(self) -> None:
        upright = "".join(sorted(_UPRIGHT.get(letter, "?") for letter in self.axes or "SAR"))
        if upright != "ARS":
            raise SourceError(
                f"an input contract has the axes {self.axes!r}. Expected three letters, one of S "
                "and I, one of A and P, one of R and L."
            )
        if not (len(self.mean) == len(self.sd) == self.channels):
            raise SourceError(
                f"an input contract of {self.channels} channels has {len(self.mean)} means and "
                f"{len(self.sd)} standard deviations. Give one of each for each channel."
            )
        if min(self.sd, default=0.0) <= 0:
            raise SourceError(
                f"an input contract has the standard deviations {self.sd}. Expected numbers "
                "above 0, one for each channel."
            )

    def carried_to(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the mean and sd that a network of ``channels`` channels takes over.

        With as many channels, they are the source's. Otherwise each channel gets the mean of the
        means, and the mean of the standard deviations: a grey image has one intensity, which the
        2D network would have normalized a little differently in R, G and B.
        """
        if channels == self.channels:
            return self.mean, self.sd
        mean, sd = sum(self.mean) / self.channels, sum(self.sd) / self.channels
        return (mean,) * channels, (sd,) * channels


@dataclass(frozen=True, kw_only=True)
class Source:
    """A start: pre-trained weights, and the facts that a graft and an audit need."""

    id: str
    """``family.tag``, unique in the catalogue."""
    file: Origin
    sha256: str | None
    """SHA-256 of the file; None where none was published and no file was seen."""
    sha256_begins: str | None = None
    """First digits of that SHA-256, where only they were published (torchvision's file names)."""
    layout: Layout
    input: InputContract
    architecture: str
    """The network that the weights were trained in: a timm name, or a model of this package."""
    stem: tuple[str, ...]
    """Convolutions that take the image, by module name in the architecture."""
    head: tuple[str, ...]
    """Modules of the classifier, by name in the architecture; empty if the file has none."""
    decoder: tuple[str, ...] = ()
    """Modules of a decoder, which an encoder does not take; by name in the architecture."""
    classes: tuple[str, ...] = ()
    """Name of each channel of a segmentation's head, in their order; first ``"background"`` where
    the head is a softmax. Empty if nobody says, or the weights segment nothing."""
    parameters: int | None
    """Trainable values of the whole network, head included where the file has it."""
    head_parameters: int = 0
    """Those of them that are in the head."""
    licence: str = UNSTATED
    paper: str = UNSTATED
    trained_on: tuple[str, ...] = ()
    """Data sets, for the leak audit; empty if nobody says."""
    also_fits: tuple[str, ...] = ()
    """Architectures with the same tensors in the same roles that differ in details (padding)."""
    key_layout: str = "timm"
    """How the file names its tensors: a name of :data:`voxgraft.weights.layouts.KEY_LAYOUTS`."""
    key: str | None = None
    """Key of the network in the file (``"teacher"``), dots between levels; None where the file
    holds one network alone, or under a known key."""
    prefix: str = ""
    """What stands before every name of the network in the file (``"backbone."``); tensors without
    it are no part of the network. Empty where the key layout says it, or there is none."""
    digests: str | None = None
    """Name of the list of tensor digests that ships with the package; None if there is none."""
    tensor_digests_given: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Tensor digests that came with the file itself (a run's card)."""
    verified: bool = False
    """Whether the real file was grafted once, with nothing unexplained and with parity."""
    note: str = ""
    """What else a person should know before using it."""

    def __post_init__(self) -> None:
        """Refuse channels that cannot be told apart by name."""
        faults = class_faults(self.classes)
        if faults:
            raise_faults(
                SourceError,
                f"source {self.id!r} cannot have the classes {', '.join(map(repr, self.classes))}",
                faults,
                "Name each channel of the head once, in their order.",
            )

    @property
    def saved(self) -> bool:
        """Whether Voxgraft wrote the weights, with a card: a run, or a saved graft."""
        return bool(self.tensor_digests_given)

    @property
    def tensor_digests(self) -> Mapping[str, str]:
        """Digest of each tensor of the file, by the file's own names; empty if not known."""
        if self.digests is None:
            return self.tensor_digests_given
        return _shipped_digests(self.digests)

    @property
    def where(self) -> str:
        """The file, in words."""
        if isinstance(self.file, PackageFile):
            return f"{self.file.member} of the package {self.file.package}=={self.file.version}"
        if isinstance(self.file, HubFile):
            return f"{self.file.filename} of hf-hub:{self.file.repository}@{self.file.revision}"
        if isinstance(self.file, WebFile):
            return self.file.url
        if isinstance(self.file, BroughtFile):
            return f"{self.file.filename}, to be brought from {self.file.where}"
        return self.file.path

    def to_dict(self) -> Json:
        """Return the entry as JSON, without the digests themselves."""
        plain = {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if item.name not in {"file", "input", "tensor_digests_given"}
        }
        kind = next(kind for kind, origin in _ORIGINS.items() if type(self.file) is origin)
        return {**plain, "file": {"kind": kind, **asdict(self.file)}, "input": asdict(self.input)}


def class_faults(classes: Sequence[str]) -> list[str]:
    """Return what is wrong with the names of a head's channels."""
    counted = Counter(classes)
    faults = [f"{name!r} stands {count} times" for name, count in counted.items() if count > 1]
    if not all(isinstance(name, str) and name.strip() for name in classes):
        faults.append("a name is empty")
    if BACKGROUND in classes[1:] and counted[BACKGROUND] == 1:
        faults.append(f"{BACKGROUND!r} is channel {classes.index(BACKGROUND)}, expected channel 0")
    return faults


def source_from_dict(entry: Mapping[str, Any]) -> Source:
    """Make a Source of what :meth:`Source.to_dict` gave, also after a trip through JSON.

    Raises:
        SourceError: If a field is missing, unknown or of another kind.
    """
    try:
        file = dict(entry["file"])
        origin = _ORIGINS[file.pop("kind")](**file)
        contract = InputContract(**{key: _tuples(item) for key, item in entry["input"].items()})
        rest = {key: _tuples(item) for key, item in entry.items() if key not in {"file", "input"}}
        return Source(file=origin, input=contract, **rest)
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise SourceError(
            f"the entry of source {entry.get('id', '(without id)')!r} cannot be read: {fault!r}. "
            "Expected the fields that Source.to_dict writes."
        ) from fault


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


@cache
def _shipped_digests(name: str) -> Mapping[str, str]:
    import json

    folder = resources.files("voxgraft.weights") / "data"
    text = (folder / f"{name}.digests.json").read_text(encoding="utf-8")
    digests: dict[str, str] = json.loads(text)
    return digests

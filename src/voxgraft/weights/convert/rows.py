"""Outputs of a head taken from those of another by the names of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from voxgraft.errors import ConversionError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TakeRows:
    """Fill a head's outputs from the source's channels of the same names, wherever they stand."""

    classes: tuple[str, ...]
    """Name of each output of the model's head, in their order."""
    channels: tuple[str, ...]
    """Name of each channel of the source's head, in their order."""
    own: Mapping[str, Tensor] = field(repr=False)
    """The tensors of the model's heads by name, as it initialised them: outputs come first."""

    @property
    def rows(self) -> tuple[int | None, ...]:
        """The source's channel of each output; None where it has none."""
        places = {name: place for place, name in enumerate(self.channels)}
        return tuple(places.get(name) for name in self.classes)

    @property
    def filled(self) -> tuple[str, ...]:
        """Classes whose outputs are the source's."""
        return tuple(name for name in self.classes if name in self.channels)

    @property
    def fresh(self) -> tuple[str, ...]:
        """Classes whose outputs stay as the model initialised them."""
        return tuple(name for name in self.classes if name not in self.channels)

    @property
    def left(self) -> tuple[str, ...]:
        """Channels of the source that are not used."""
        return tuple(name for name in self.channels if name not in self.classes)

    def words(self) -> str:
        """Say which output is which channel, which are fresh, and which channels are left."""
        pairs = zip(self.classes, self.rows, strict=True)
        found = [f"{name} from channel {place}" for name, place in pairs if place is not None]
        said = f"by class name: {', '.join(found) or 'none'}"
        said += f"; fresh: {', '.join(self.fresh)}" if self.fresh else ""
        return said + (f"; channels left out: {', '.join(self.left)}" if self.left else "")

    def adapt(self, name: str, tensor: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
        """Return the adapted tensor and how, or None if the rule has nothing to do.

        Raises:
            ConversionError: If the source's head has not one channel for each name.
        """
        if name not in self.own:
            return None
        count = tensor.shape[0] if tensor.ndim else 0
        if count != len(self.channels):
            raise ConversionError(
                f"the source's head has {count} channels, but {len(self.channels)} classes are "
                "named for it"
            )
        in_order = self.rows == tuple(range(count))
        if in_order or tensor.shape[1:] != shape[1:]:
            return None
        filled = self.own[name].detach().clone()
        for row, channel in enumerate(self.rows):
            if channel is not None:
                filled[row] = tensor[channel]
        return filled, self.words()

    def wrong_rows(self, name: str, found: Tensor, given: Tensor) -> list[str]:
        """Return the classes whose outputs are not, bit by bit, the source's or the fresh ones.

        Args:
            name: Of the model's tensor.
            found: The tensor in the model after loading.
            given: The tensor in the source.
        """
        wrong = []
        for row, (label, channel) in enumerate(zip(self.classes, self.rows, strict=True)):
            expected = self.own[name][row] if channel is None else given[channel].to(found.dtype)
            if not bool((found[row] == expected).all()):
                wrong.append(label)
        return wrong

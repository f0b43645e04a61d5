"""What every part of a ``comparison.json`` is made of: numbers in bounds, estimates."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Number = Annotated[float, Field(ge=-1e15, le=1e15)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Size = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**64)]


class Part(BaseModel):
    """A part of a comparison: typed strictly, null read as absent, unknown keys ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item for key, item in value.items() if item is not None}
        return value


class Estimate(Part):
    """A number with its interval; without a number, the reason why there is none."""

    estimate: Number | None = None
    low: Number | None = None
    high: Number | None = None
    n_patients: Count | None = None
    method: str = ""
    note: str = ""
    reason: str = ""

    @property
    def why(self) -> str:
        """Return why there is no estimate, or what to know of it."""
        return self.reason or self.note

"""Several names in one option, with commas between them."""

from __future__ import annotations


def listed(text: str | None) -> list[str] | None:
    """Return the names of ``liver,spleen``; None stays None."""
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]

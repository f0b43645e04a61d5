"""Write docs/sources.md, and the tables of docs/models.md, anew from the registries.

Run from the repository's root: ``make pages``
"""

from __future__ import annotations

from pathlib import Path

from voxgraft.files import write_text
from voxgraft.models import models_table
from voxgraft.weights.table import sources_page

DOCS = Path(__file__).parent.parent / "docs"
BEGIN = "## The registry"
REGISTRY = f"""{BEGIN}

Parameters are those of the encoder with one input channel. The smallest input is in voxels, (depth,
height, width). What a network equals is held by tests, which run both with the same weights. The
tables are generated from the registry: `make pages`.

"""


def main() -> None:
    write_text(DOCS / "sources.md", sources_page())
    page = DOCS / "models.md"
    prose = page.read_text(encoding="utf-8").partition(BEGIN)[0]
    write_text(page, f"{prose}{REGISTRY}{models_table()}\n")
    print(f"wrote {DOCS / 'sources.md'} and {page}")


if __name__ == "__main__":
    main()

"""Write the sizes by which recognition chooses the networks that a file is compared with.

Run again when networks were added: ``python benchmarks/make_network_sizes.py``. A network that is
not listed is built when a file is first recognised, which costs time only.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from voxgraft.files import write_text
from voxgraft.grafting.recognition import NETWORKS

FILE = Path(__file__).parents[1] / "src/voxgraft/grafting/data/network_sizes.json"


def main() -> None:
    sizes = {
        name: sum(math.prod(shape) for shape in NETWORKS.anatomy(name).shapes.values())
        for name in NETWORKS.names()
    }
    write_text(FILE, json.dumps(sizes, indent=0) + "\n")
    print(f"{len(sizes)} networks")


if __name__ == "__main__":
    main()

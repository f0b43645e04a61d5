"""What a scan is costs no reader of scans."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("SimpleITK", "nibabel", "pydicom", "scipy", "torch")


def test_readers_are_imported_when_a_file_is_read():
    program = (
        "import sys, voxgraft.volumes\n"
        "from voxgraft.volumes import Affine, read_volume, series_uid\n"
        f"print(sorted(set({HEAVY}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

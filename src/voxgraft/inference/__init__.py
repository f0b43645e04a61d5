"""A trained run on new scans: predictions, why it says so, and numbers where there are labels."""

from voxgraft.inference.evaluate import Evaluation, evaluate
from voxgraft.inference.explain import Explanation, SeenWindow, explain
from voxgraft.inference.outputs import find_output, likely_output, output_label, output_names
from voxgraft.inference.planes import Plane, telling_planes
from voxgraft.inference.predict import predict
from voxgraft.inference.scans import (
    ExplainedScan,
    explain_scan,
    names_of_scans,
    scan_slice_of,
    write_explained,
)
from voxgraft.runs import load_trained

__all__ = [
    "Evaluation",
    "ExplainedScan",
    "Explanation",
    "Plane",
    "SeenWindow",
    "evaluate",
    "explain",
    "explain_scan",
    "find_output",
    "likely_output",
    "load_trained",
    "names_of_scans",
    "output_label",
    "output_names",
    "predict",
    "scan_slice_of",
    "telling_planes",
    "write_explained",
]

"""A trained run on new scans: predictions, why it says so, and numbers where there are labels."""

from voxgraft.inference.device import place_on
from voxgraft.inference.dicom_seg import write_dicom_seg
from voxgraft.inference.evaluate import Evaluation, evaluate
from voxgraft.inference.explain import Explanation, SeenWindow, explain
from voxgraft.inference.outputs import find_output, likely_output, output_label, output_names
from voxgraft.inference.planes import Plane, telling_planes
from voxgraft.inference.post_processing import Cleaning, clean
from voxgraft.inference.predict import predict
from voxgraft.inference.probabilities import Probabilities
from voxgraft.inference.scans import (
    ExplainedScan,
    explain_scan,
    names_of_scans,
    scan_slice_of,
    write_explained,
)
from voxgraft.inference.scoring import (
    LesionQuestion,
    SegmentationEvaluation,
    evaluate_predictions,
    evaluate_segmentation,
)
from voxgraft.inference.segment import segment_scan
from voxgraft.inference.segment_to import WrittenScan, segment_to
from voxgraft.inference.segmentation_files import write_segmented
from voxgraft.inference.segmented import SegmentedScan, pack_masks
from voxgraft.runs import load_segmentation, load_trained

__all__ = [
    "Cleaning",
    "Evaluation",
    "ExplainedScan",
    "Explanation",
    "LesionQuestion",
    "Plane",
    "Probabilities",
    "SeenWindow",
    "SegmentationEvaluation",
    "SegmentedScan",
    "WrittenScan",
    "clean",
    "evaluate",
    "evaluate_predictions",
    "evaluate_segmentation",
    "explain",
    "explain_scan",
    "find_output",
    "likely_output",
    "load_segmentation",
    "load_trained",
    "names_of_scans",
    "output_label",
    "output_names",
    "pack_masks",
    "place_on",
    "predict",
    "scan_slice_of",
    "segment_scan",
    "segment_to",
    "telling_planes",
    "write_dicom_seg",
    "write_explained",
    "write_segmented",
]

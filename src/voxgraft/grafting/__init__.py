"""Where starting weights meet models."""

from voxgraft.grafting.class_rows import Parts
from voxgraft.grafting.decoder_transfer import decoder_kind, decoder_options
from voxgraft.grafting.deflation import Deflated, deflate
from voxgraft.grafting.graft import Graft, graft, save_graft
from voxgraft.grafting.networks import network_of
from voxgraft.grafting.plan import Norm
from voxgraft.grafting.pretrained import from_pretrained
from voxgraft.grafting.propose import Proposal, graft_by_rules, propose, source_by_rules
from voxgraft.grafting.recognition import find_source, inspect_file
from voxgraft.grafting.segmentation import SegmentationGraft, graft_segmentation
from voxgraft.grafting.statistics import StatisticsCheck, check_statistics
from voxgraft.grafting.verify import Proof, verify_source, verify_sources

__all__ = [
    "Deflated",
    "Graft",
    "Norm",
    "Parts",
    "Proof",
    "Proposal",
    "SegmentationGraft",
    "StatisticsCheck",
    "check_statistics",
    "decoder_kind",
    "decoder_options",
    "deflate",
    "find_source",
    "from_pretrained",
    "graft",
    "graft_by_rules",
    "graft_segmentation",
    "inspect_file",
    "network_of",
    "propose",
    "save_graft",
    "source_by_rules",
    "verify_source",
    "verify_sources",
]

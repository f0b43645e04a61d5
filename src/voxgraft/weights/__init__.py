"""Starting weights: where they come from, what they hold, and how they are made to fit.

This room sees names, shapes and values, never networks of Voxgraft:
:mod:`voxgraft.grafting` introduces them.
"""

from voxgraft.weights.card import Card, card_source, load_card, save_weights
from voxgraft.weights.catalog import SOURCES
from voxgraft.weights.convert import (
    INFLATIONS,
    STEM_METHODS,
    Cast,
    Converted,
    Drop,
    FoldChannels,
    Fresh,
    Inflate,
    Inflation,
    ReconcileKernel,
    Rename,
    Rule,
    StemMethod,
    convert,
    fold_channels,
    inflate_kernel,
)
from voxgraft.weights.digests import tensor_digest, tensor_digests
from voxgraft.weights.fetch import fetch_source, read_source
from voxgraft.weights.layouts import naming_rules
from voxgraft.weights.read import read_checkpoint, read_state_dict
from voxgraft.weights.recognize import inspect_file
from voxgraft.weights.report import GraftReport, Parity
from voxgraft.weights.resolve import resolve_source
from voxgraft.weights.source import HubFile, InputContract, LocalFile, Source

__all__ = [
    "INFLATIONS",
    "SOURCES",
    "STEM_METHODS",
    "Card",
    "Cast",
    "Converted",
    "Drop",
    "FoldChannels",
    "Fresh",
    "GraftReport",
    "HubFile",
    "Inflate",
    "Inflation",
    "InputContract",
    "LocalFile",
    "Parity",
    "ReconcileKernel",
    "Rename",
    "Rule",
    "Source",
    "StemMethod",
    "card_source",
    "convert",
    "fetch_source",
    "fold_channels",
    "inflate_kernel",
    "inspect_file",
    "load_card",
    "naming_rules",
    "read_checkpoint",
    "read_source",
    "read_state_dict",
    "resolve_source",
    "save_weights",
    "tensor_digest",
    "tensor_digests",
]

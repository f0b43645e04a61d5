"""Tables of cases: targets, audit, splits by patient, nested training sizes, importers."""

from voxgraft.datasets.audit import Fault, check_table
from voxgraft.datasets.importers import (
    import_folder_per_class,
    import_lidc,
    import_medmnist,
)
from voxgraft.datasets.slice_labels import SliceLabels, read_slice_labels, write_slice_labels
from voxgraft.datasets.splits import split_table
from voxgraft.datasets.subsets import nested_subsets
from voxgraft.datasets.table import SPLITS, Table, read_table, write_table
from voxgraft.datasets.target import Kind, Target

__all__ = [
    "SPLITS",
    "Fault",
    "Kind",
    "SliceLabels",
    "Table",
    "Target",
    "check_table",
    "import_folder_per_class",
    "import_lidc",
    "import_medmnist",
    "nested_subsets",
    "read_slice_labels",
    "read_table",
    "split_table",
    "write_slice_labels",
    "write_table",
]

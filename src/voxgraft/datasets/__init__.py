"""Tables of cases: targets, audit, splits by patient, nested training sizes, importers."""

from voxgraft.datasets.audit import Fault, check_table
from voxgraft.datasets.importers import (
    import_folder_per_class,
    import_lidc,
    import_lidc_studies,
    import_medmnist,
    import_rsna_pe,
    import_studies,
    import_videos,
)
from voxgraft.datasets.slice_labels import SliceLabels, read_slice_labels, write_slice_labels
from voxgraft.datasets.splits import split_table
from voxgraft.datasets.subsets import nested_subsets
from voxgraft.datasets.table import SPLITS, Table, read_table, write_table
from voxgraft.datasets.target import Kind, Target
from voxgraft.datasets.windows import Windows, check_windows, pool_windows, window_starts

__all__ = [
    "SPLITS",
    "Fault",
    "Kind",
    "SliceLabels",
    "Table",
    "Target",
    "Windows",
    "check_table",
    "check_windows",
    "import_folder_per_class",
    "import_lidc",
    "import_lidc_studies",
    "import_medmnist",
    "import_rsna_pe",
    "import_studies",
    "import_videos",
    "nested_subsets",
    "pool_windows",
    "read_slice_labels",
    "read_table",
    "split_table",
    "window_starts",
    "write_slice_labels",
    "write_table",
]

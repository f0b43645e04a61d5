"""Tables of cases: targets, audit, splits by patient, nested training sizes, importers."""

from voxgraft.datasets.annotated import cases_without, check_annotated, unannotated
from voxgraft.datasets.audit import Fault, check_table
from voxgraft.datasets.importers import (
    SegmentationOptions,
    import_abdomen_atlas,
    import_btcv,
    import_flare,
    import_folder_per_class,
    import_lidc,
    import_lidc_studies,
    import_masks,
    import_medmnist,
    import_msd,
    import_nnunet,
    import_rsna_pe,
    import_studies,
    import_totalsegmentator,
    import_videos,
)
from voxgraft.datasets.join import join_tables
from voxgraft.datasets.mask_classes import (
    CaseMasks,
    Structures,
    case_masks,
    known_structures,
    read_structures,
    structure_names,
    write_structures,
)
from voxgraft.datasets.masks import Masks, read_masks
from voxgraft.datasets.slice_labels import SliceLabels, read_slice_labels, write_slice_labels
from voxgraft.datasets.splits import split_table
from voxgraft.datasets.structures import (
    ABDOMEN_ATLAS_1_0,
    ABDOMEN_ATLAS_1_1,
    SUPREM_HEAD,
    canonical_name,
)
from voxgraft.datasets.subsets import nested_subsets
from voxgraft.datasets.table import SPLITS, Table, read_table, write_table
from voxgraft.datasets.target import Kind, Target
from voxgraft.datasets.windows import Windows, check_windows, pool_windows, window_starts

__all__ = [
    "ABDOMEN_ATLAS_1_0",
    "ABDOMEN_ATLAS_1_1",
    "SPLITS",
    "SUPREM_HEAD",
    "CaseMasks",
    "Fault",
    "Kind",
    "Masks",
    "SegmentationOptions",
    "SliceLabels",
    "Structures",
    "Table",
    "Target",
    "Windows",
    "canonical_name",
    "case_masks",
    "cases_without",
    "check_annotated",
    "check_table",
    "check_windows",
    "import_abdomen_atlas",
    "import_btcv",
    "import_flare",
    "import_folder_per_class",
    "import_lidc",
    "import_lidc_studies",
    "import_masks",
    "import_medmnist",
    "import_msd",
    "import_nnunet",
    "import_rsna_pe",
    "import_studies",
    "import_totalsegmentator",
    "import_videos",
    "join_tables",
    "known_structures",
    "nested_subsets",
    "pool_windows",
    "read_masks",
    "read_slice_labels",
    "read_structures",
    "read_table",
    "split_table",
    "structure_names",
    "unannotated",
    "window_starts",
    "write_slice_labels",
    "write_structures",
    "write_table",
]

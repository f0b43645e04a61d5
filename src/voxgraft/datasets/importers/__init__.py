"""Importers: other people's data sets become tables of cases."""

from voxgraft.datasets.importers.folder_per_class import import_folder_per_class
from voxgraft.datasets.importers.lidc import import_lidc
from voxgraft.datasets.importers.lidc_studies import import_lidc_studies
from voxgraft.datasets.importers.medmnist import import_medmnist
from voxgraft.datasets.importers.rsna_pe import import_rsna_pe
from voxgraft.datasets.importers.segmentation_challenges import import_btcv, import_flare
from voxgraft.datasets.importers.segmentation_folders import (
    import_abdomen_atlas,
    import_totalsegmentator,
)
from voxgraft.datasets.importers.segmentation_nnunet import import_msd, import_nnunet
from voxgraft.datasets.importers.segmentation_pattern import import_masks
from voxgraft.datasets.importers.segmentation_table import SegmentationOptions
from voxgraft.datasets.importers.studies import import_studies
from voxgraft.datasets.importers.videos import import_videos

__all__ = [
    "SegmentationOptions",
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
]

"""Importers: other people's data sets become tables of cases."""

from voxgraft.datasets.importers.folder_per_class import import_folder_per_class
from voxgraft.datasets.importers.lidc import import_lidc
from voxgraft.datasets.importers.medmnist import import_medmnist

__all__ = ["import_folder_per_class", "import_lidc", "import_medmnist"]

"""Importers: other people's data sets become tables of cases."""

from voxgraft.datasets.importers.lidc import import_lidc

__all__ = ["import_lidc"]

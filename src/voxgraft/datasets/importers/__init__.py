"""Importers: other people's data sets become tables of cases."""

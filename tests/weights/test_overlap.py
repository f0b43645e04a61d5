"""Declared training data against declared test data, by what sets contain one another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from voxgraft.weights import SOURCES
from voxgraft.weights.overlap import known_data_sets, overlap_text, overlaps


@pytest.mark.parametrize(
    ("trained", "tested", "kind"),
    [
        ("LIDC-IDRI", "lidc", "same"),
        ("LIDC-IDRI", "LIDC-IDRI", "same"),
        ("some own data", "Some own data", "same"),
        ("LUNA16", "LIDC-IDRI", "contained"),
        ("LIDC-IDRI", "LUNA 2016", "contains"),
        ("LIDC-IDRI", "NoduleMNIST3D", "contains"),
        ("AbdomenAtlas 1.1", "BTCV", "contains"),
        ("AbdomenAtlas 1.1", "3D-IRCADb", "contains"),
        ("LDM 100k", "UKB", "contains"),
        ("OpenMind", "OpenNeuro", "contained"),
        ("NCI Imaging Data Commons", "NLST", "contains"),
        ("AbdomenCT-1K", "Medical Segmentation Decathlon", "contains"),
        ("Medical Segmentation Decathlon", "AbdomenCT-1K", "contained"),
        ("AbdomenCT-1K", "AbdomenAtlas 1.0", "contained"),
    ],
)
def test_sets_that_have_scans_in_common(trained: str, tested: str, kind: str) -> None:
    found = overlaps([trained, "Kinetics-400"], [tested])
    assert [(o.trained_on, o.tested_on, o.kind) for o in found] == [(trained, tested, kind)]
    assert kind == "same" or found[0].because


def test_sets_that_share_a_part_are_told_with_the_part() -> None:
    (found,) = overlaps(["NCI Imaging Data Commons"], ["AbdomenCT-1K"])
    assert found.kind == "shares"
    assert found.because.startswith("both have Pancreas-CT: ")


@pytest.mark.parametrize(
    ("trained", "tested"),
    [("ImageNet-1k", "LIDC-IDRI"), ("NLST", "LIDC-IDRI"), ("BTCV", "CHAOS"), ("UKB", "OpenMind")],
)
def test_sets_of_which_nothing_is_known_in_common(trained: str, tested: str) -> None:
    assert overlaps([trained], [tested]) == []


def test_what_is_said_of_a_start() -> None:
    source = replace(SOURCES.get("resnet18.a1_in1k"), trained_on=("LUNA16", "ImageNet-1k"))
    flag, text = overlap_text(source, ["LIDC-IDRI"])
    assert flag
    assert "was trained on LUNA16, which is part of the test data LIDC-IDRI (arXiv:1612" in text
    assert "leave those cases out of the test, or the start out" in text
    assert overlap_text(source, ["KiTS"]) == (
        False,
        "resnet18.a1_in1k: trained on LUNA16, ImageNet-1k; no overlap with KiTS is known",
    )
    flag, text = overlap_text(source, [])
    assert flag
    assert "nobody said which data set they are of" in text
    flag, text = overlap_text(replace(source, trained_on=()), ["KiTS"])
    assert flag
    assert "nobody says what it was trained on" in text


def test_the_catalogue_spells_known_sets_as_the_list_does() -> None:
    """A set that the catalogue names otherwise would never be found."""
    usual = {name.casefold().replace("-", "").replace(" ", ""): name for name in known_data_sets()}
    for source in SOURCES:
        for data in source.trained_on:
            plain = data.casefold().replace("-", "").replace(" ", "")
            if plain in usual:
                assert overlaps([data], [usual[plain]]), (source.id, data)

"""The structures of TotalSegmentator in the groups that SuPreM was transferred to."""

from __future__ import annotations


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}_{side}" for name in names for side in ("left", "right"))


GROUPS: dict[str, tuple[str, ...]] = {
    "organs": (
        "spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "aorta",
        "inferior_vena_cava", "portal_vein_and_splenic_vein", "pancreas", "adrenal_gland_right",
        "adrenal_gland_left", "lung_upper_lobe_left", "lung_lower_lobe_left",
        "lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right",
    ),
    "vertebrae": (
        *(f"vertebrae_L{number}" for number in range(5, 0, -1)),
        *(f"vertebrae_T{number}" for number in range(12, 0, -1)),
        *(f"vertebrae_C{number}" for number in range(7, 0, -1)),
    ),
    "cardiac": (
        "esophagus", "trachea", "heart_myocardium", "heart_atrium_left", "heart_ventricle_left",
        "heart_atrium_right", "heart_ventricle_right", "pulmonary_artery", "brain",
        "iliac_artery_left", "iliac_artery_right", "iliac_vena_left", "iliac_vena_right",
        "small_bowel", "duodenum", "colon", "urinary_bladder", "face",
    ),
    "muscles": (
        *_both("humerus", "scapula", "clavicula", "femur", "hip"),
        "sacrum",
        *_both("gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas"),
    ),
    "ribs": tuple(f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)),
}  # fmt: skip
"""Group to its structures, by canonical name; 17, 24, 18, 21 and 24, so one more outputs with the
background.

Source: version 1 of TotalSegmentator (Wasserthal et al., 2023), whose five networks had these
parts; SuPreM fine-tunes on the same.
"""

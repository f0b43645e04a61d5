"""What the channels of published segmentation heads are called, in their order.

Names are the canonical ones of :mod:`voxgraft.datasets.structures`.
"""

BTCV_CLASSES = (
    "background", "spleen", "kidney_right", "kidney_left", "gallbladder", "esophagus", "liver",
    "stomach", "aorta", "inferior_vena_cava", "portal_vein_and_splenic_vein", "pancreas",
    "adrenal_gland_right", "adrenal_gland_left",
)  # fmt: skip
"""The 14 channels of networks for "Beyond the Cranial Vault".

Source: the challenge's list of labels, doi:10.7303/syn3193805.
"""
SUPREM_CLASSES = (
    "spleen", "kidney_right", "kidney_left", "gallbladder", "esophagus", "liver", "stomach",
    "aorta", "inferior_vena_cava", "portal_vein_and_splenic_vein", "pancreas",
    "adrenal_gland_right", "adrenal_gland_left", "duodenum", "hepatic_vessel", "lung_right",
    "lung_left", "colon", "intestine", "rectum", "urinary_bladder", "prostate", "femur_left",
    "femur_right", "celiac_trunk", "kidney_tumor", "liver_tumor", "pancreas_tumor",
    "hepatic_vessel_tumor", "lung_tumor", "colon_tumor", "kidney_cyst",
)  # fmt: skip
"""The 32 channels of SuPreM's networks and of the Universal Model, each with a sigmoid.

Source: the inference code published with arXiv:2501.11253, and that of arXiv:2301.00785.
"""

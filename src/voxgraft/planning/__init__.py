"""What a segmentation is to be trained with, from the data, the memory and the start."""

from voxgraft.planning.budget import Budget, Device, find_budget
from voxgraft.planning.crops import Crops, choose_crops
from voxgraft.planning.decision import Decision
from voxgraft.planning.fingerprint import DataFingerprint, take_fingerprint
from voxgraft.planning.plan import SegmentationPlan, check_split, plan_segmentation, table_from
from voxgraft.planning.training_memory import TrainedNetwork, TrainingMemory

__all__ = [
    "Budget",
    "Crops",
    "DataFingerprint",
    "Decision",
    "Device",
    "SegmentationPlan",
    "TrainedNetwork",
    "TrainingMemory",
    "check_split",
    "choose_crops",
    "find_budget",
    "plan_segmentation",
    "table_from",
    "take_fingerprint",
]

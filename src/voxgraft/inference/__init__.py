"""A trained run on new scans: predictions, and numbers where there are labels."""

from voxgraft.inference.evaluate import Evaluation, evaluate
from voxgraft.inference.predict import predict
from voxgraft.runs import load_trained

__all__ = ["Evaluation", "evaluate", "load_trained", "predict"]

"""What a network is trained for: head size, loss, decoding and metrics of one target."""

from voxgraft.tasks.fitted import Fitted
from voxgraft.tasks.task import Task, build_task

__all__ = ["Fitted", "Task", "build_task"]

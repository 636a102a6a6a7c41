"""A PyTorch task as data, and the executors that train it."""

from tacit.training.executor import ClientWork, Executor, Failure, Trained
from tacit.training.task import Task

__all__ = ["ClientWork", "Executor", "Failure", "Task", "Trained"]

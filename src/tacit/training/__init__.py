"""A PyTorch task as data, and the executors that train it."""

from tacit.training.executor import Choice, ClientWork, Executor, Failure, Trained
from tacit.training.program import Port, Program, ProgramError, ProgramFacts, Values
from tacit.training.program_check import Allowance, check_program
from tacit.training.task import Task

__all__ = [
    "Allowance",
    "Choice",
    "ClientWork",
    "Executor",
    "Failure",
    "Port",
    "Program",
    "ProgramError",
    "ProgramFacts",
    "Task",
    "Trained",
    "Values",
    "check_program",
]

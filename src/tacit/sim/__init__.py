"""The first driver: simulation in worker processes."""

from tacit.sim.beginning import Source, default_folder
from tacit.sim.observer import Observer
from tacit.sim.planning import download, plan
from tacit.sim.result import Result
from tacit.sim.simulate import run

__all__ = ["Observer", "Result", "Source", "default_folder", "download", "plan", "run"]

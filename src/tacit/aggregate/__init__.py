"""How updates become one."""

from tacit.aggregate.fixed_mean import FixedMean
from tacit.aggregate.mean import WeightedMean

__all__ = ["FixedMean", "WeightedMean"]

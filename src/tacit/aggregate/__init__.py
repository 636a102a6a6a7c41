"""How updates become one."""

from tacit.aggregate.mean import WeightedMean

__all__ = ["WeightedMean"]

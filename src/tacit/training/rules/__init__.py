"""Layer rules: forward and backward passes written by hand for a stack of clients, the update fused in."""

from tacit.training.rules.executor import RulesExecutor

__all__ = ["RulesExecutor"]

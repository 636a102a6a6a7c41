"""How a cohort is cut into groups that are trained together."""

from collections.abc import Sequence

from tacit.job import Plan
from tacit.sim.engine import Call


def groups_of(calls: Sequence[Call], plan: Plan, size: int) -> list[list[Call]]:
    """Cut a cohort into groups of at most ``size``: clients of like cost together, the costliest group first.

    The partition follows from the cohort alone, never from the number of workers or from timing: an
    executor may round differently when it trains other clients together.
    """
    costs = costs_of(calls, plan)
    order = sorted(range(len(calls)), key=lambda i: (-costs[i], calls[i].position))
    return [[calls[i] for i in order[start : start + size]] for start in range(0, len(calls), size)]


def costs_of(calls: Sequence[Call], plan: Plan) -> list[int]:
    """Return the local steps of each call, the measure of its cost."""
    local = plan.job.algorithm.local
    return [
        local.total_steps(max(1, int(plan.sizes[call.position])))
        if call.max_steps is None
        else min(call.max_steps, local.total_steps(max(1, int(plan.sizes[call.position]))))
        for call in calls
    ]

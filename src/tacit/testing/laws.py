"""Which laws hold for which kind of part, and how to check them."""

from collections.abc import Callable
from typing import Any

from tacit.algorithms import Algorithm, ServerOptimizer
from tacit.core.cohort import Cohort
from tacit.core.part import Part
from tacit.core.rule import Rule
from tacit.core.stage import Stage
from tacit.data import Partitioner
from tacit.round import Dropout, Duration, StopRule
from tacit.testing import part_laws, rule_laws, small_laws, stage_laws

Law = Callable[[Any], None]

_LAWS: tuple[tuple[Any, Any], ...] = (
    (Part, part_laws),
    (Stage, stage_laws),
    (Rule, rule_laws),
    (Cohort, small_laws.Cohorts),
    (ServerOptimizer, small_laws.ServerOptimizers),
    (Algorithm, small_laws.Algorithms),
    (Partitioner, small_laws.Partitioners),
    (StopRule, small_laws.StopRules),
    (Duration, small_laws.Durations),
    (Dropout, small_laws.Dropouts),
)

__all__ = ["check", "laws_of"]


def laws_of(part: Part) -> dict[str, Law]:
    """Return the laws that a part must obey, by name: those of every kind whose protocol it satisfies."""
    found: dict[str, Law] = {}
    for kind, home in _LAWS:
        if isinstance(part, kind):
            found |= {name: law for name, law in vars(home).items() if name.startswith("law_")}
    return {name: getattr(law, "__func__", law) for name, law in found.items()}


def check(part: Part) -> None:
    """Check every law that the part must obey.

    Raises:
        AssertionError: It breaks one; the message is the law's.
    """
    for law in laws_of(part).values():
        law(part)

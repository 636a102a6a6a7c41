"""How far apart two steps of one client are at least."""

from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar

from msgspec import Meta

from tacit.core.part import Settings

ClientId = TypeVar("ClientId")


class Separation(Settings, frozen=True):
    """A client takes part at steps at least ``min_separation`` apart; correlated noise relies on it.

    Steps are released steps of one mechanism, per population and job: a round that was abandoned and is
    tried again has the number of the same step. A participation counts from the moment that the update
    leaves the device, whatever becomes of the round, so a client that has sent for a step that is tried
    again is not asked for it a second time. Server and device both check.

    Attributes:
        min_separation: Least distance of two steps of one client; 1 allows every step.

    >>> Separation(min_separation=20).allows(step=25, last=6)
    False
    """

    min_separation: Annotated[int, Meta(ge=1)]

    def allows(self, step: int, last: int | None) -> bool:
        """Tell whether a client may take part at a step, if it last did at ``last`` (None: never).

        False too where ``last`` lies ahead: a server that was restored from an old state asks for it.
        """
        return last is None or step - last >= self.min_separation

    def next_step(self, last: int | None) -> int:
        """Return the first step at which a client that last took part at ``last`` may do so again."""
        return 0 if last is None else last + self.min_separation

    def eligible(
        self, clients: Iterable[ClientId], last: Mapping[ClientId, int], step: int
    ) -> tuple[ClientId, ...]:
        """Return those of the clients that may take part at a step, in the order given.

        Args:
            clients: Those who could be asked.
            last: The step at which each client last took part; one that never did is left out.
            step: The step in question.
        """
        return tuple(client for client in clients if self.allows(step, last.get(client)))

    def largest_cohort(self, population: int) -> int:
        """Return the largest cohort that can be asked anew at every step."""
        return population // self.min_separation

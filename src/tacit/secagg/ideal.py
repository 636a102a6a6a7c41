"""What a secure sum comes to when clients vanish: the ideal that the machines must agree with.

It has no keys, shares or vectors: only who is there at each step, who is whose neighbour, and how many are
needed. A simulation that trusts itself may use it in place of the machines; the tests hold them to it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from tacit.core.errors import PlanError
from tacit.secagg.events import REASONS, STEPS, Step
from tacit.secagg.graph import neighbours
from tacit.secagg.parameters import GroupParameters, Threat, find_parameters
from tacit.secagg.terms import Terms


@dataclass(frozen=True)
class Fate:
    """How a group ends.

    Attributes:
        survivors: Whose rows are in the sum, by id; nobody's if there is none.
        reason: Why there is no sum, one of ``events.REASONS``; empty if there is one.
    """

    survivors: tuple[str, ...] = ()
    reason: str = ""


def fate(
    clients: Sequence[str],
    nonces: Mapping[str, bytes],
    assignment: Terms,
    leaves: Mapping[str, Step],
    threat: Threat,
    min_cohort: int,
    find: Callable[[int, Threat], GroupParameters] = find_parameters,
) -> Fate:
    """Return how a group ends if these clients vanish before they send the message of a step.

    Args:
        clients: Who is invited.
        nonces: What each puts into its advert; the graph depends on it.
        assignment: The group's terms.
        leaves: The first step whose message a client does not send; in semi-honest mode ``"signature"`` is
            as good as ``"unmask"``. Who is not named stays.
        threat: What the parameters have to withstand.
        min_cohort: No sum of fewer is opened.
        find: Finds the parameters.

    >>> from tacit.secagg.ideal import Fate
    >>> Fate(reason="too few clients came").survivors
    ()
    """

    def sent(step: Step, who: Collection[str]) -> list[str]:
        """Return those who are there for this step's message."""
        last = STEPS.index(step)
        return [client for client in who if client not in leaves or STEPS.index(leaves[client]) > last]

    members = sent("advert", sorted(clients))
    if len(members) < min_cohort:
        return Fate(reason=REASONS["advert"])
    try:
        found = find(len(members), threat)
    except PlanError:
        return Fate(reason=REASONS["advert"])
    seed = assignment.graph_seed((client, nonces[client]) for client in members)
    graph = neighbours(len(members), found.neighbours, seed)
    near = {client: {members[at] for at in graph[i]} for i, client in enumerate(members)}

    def enough(client: str, there: Collection[str]) -> bool:
        return len(near[client].intersection(there)) >= found.threshold

    dealers = sent("shares", members)
    while len(kept := [client for client in dealers if enough(client, dealers)]) < len(dealers):
        dealers = kept
    if len(dealers) < min_cohort:
        return Fate(reason=REASONS["shares"])

    survivors = sent("vector", dealers)
    # Of a survivor the self mask is opened, of another dealer the masks that some survivor carries.
    opened = [client for client in dealers if client in survivors or near[client].intersection(survivors)]
    if len(survivors) < min_cohort or not all(enough(client, survivors) for client in opened):
        return Fate(reason=REASONS["vector"])

    confirmed = survivors
    if threat.mode == "malicious":
        signers = sent("signature", survivors)
        confirmed = [client for client in signers if enough(client, signers)]
        if not all(enough(client, confirmed) for client in opened):
            return Fate(reason=REASONS["signature"])

    answers = sent("unmask", confirmed)
    if not all(enough(client, answers) for client in opened):
        return Fate(reason=REASONS["unmask"])
    return Fate(tuple(survivors))

"""Hierarchical sums: edge relays run a secure sum each, and the root sums the relays.

Sums of groups are integers on one grid, so they may simply be added, in any order: then the root sees every
group's. Where it should not, the relays are themselves the clients of a second secure sum::

    clients --secure sum--> relay --.
    clients --secure sum--> relay --+--secure sum--> root: the sum over all, and no group's
    clients --secure sum--> relay --'

A relay still sees its own group's sum. What is hidden is a group from the root, as long as the relay does not
hand it over: relay and root have to be run by different parties, or nothing is gained. A client's own row is
protected as in any group, and by ``min_cohort`` of its group alone: the root's terms count relays.
"""

import numpy as np
from msgspec.structs import replace

from tacit.core.errors import LocalProtocolError, PlanError
from tacit.secagg.client import SecureClient
from tacit.secagg.events import (
    ClientEffect,
    ClientEvent,
    Closed,
    GroupFailed,
    Leave,
    Masks,
    RowReady,
    Summed,
)
from tacit.secagg.framing import digest
from tacit.secagg.masks import Mask, add_masks
from tacit.secagg.messages import Complaint
from tacit.secagg.parameters import SMALLEST_GROUP
from tacit.secagg.ring import LaneGroup, Ring, Words, lane_bits
from tacit.secagg.terms import Terms

TOO_LARGE = "its group's sum is beyond its lanes"
"""Why a relay leaves whose clients sent what nobody may: it would spoil the sum of all."""


def relay_ring(ring: Ring, groups: int) -> Ring:
    """Return the ring in which the sums of so many groups add up, given the ring of one group.

    A lane that holds a group's sum of any value holds the sum of all of them once it is as much wider. So no
    group, however hostile, makes a lane of the root run over.

    Raises:
        PlanError: A lane would have more than 63 bits (T189).

    >>> relay_ring(Ring((LaneGroup(size=3, bits=32), LaneGroup(size=1, bits=52))), groups=100).lanes
    (LaneGroup(size=3, bits=39), LaneGroup(size=1, bits=59))
    """
    try:
        return Ring(tuple(LaneGroup(g.size, lane_bits(_most(g), groups)) for g in ring.lanes))
    except ValueError as error:
        raise PlanError(
            "T189",
            f"the sums of {groups} groups do not fit the ring: {error}",
            fix="Lower lane_bits, or take fewer and larger groups.",
        ) from None


def relay_terms(
    terms: Terms,
    groups: int,
    *,
    server_key: bytes,
    least: int = SMALLEST_GROUP,
    enrolment_root: bytes | None = None,
) -> Terms:
    """Return the terms of the root's sum, in which the relays of all groups are the clients.

    Args:
        terms: Of any of the groups: the round, the model and the settings are the same in all.
        groups: How many there are, each with a relay.
        server_key: The root's X25519 key for this sum, fresh.
        least: Relays below which the root opens nothing. Who is one of two learns the other group's sum.
        enrolment_root: Who vouches for the relays; None: who vouches for the clients.

    Raises:
        PlanError: The root's lanes would be too wide (T189), or there are fewer relays than ``least`` (T187).
    """
    if not SMALLEST_GROUP <= least <= groups:
        raise PlanError(
            "T187",
            f"a sum over at least {least} of {groups} relays hides no group, or never opens",
            fix=f"Have more groups, and let least be from {SMALLEST_GROUP} to their number.",
        )
    ring = Ring(tuple(LaneGroup(size, bits) for size, bits in terms.lanes))
    return replace(
        terms,
        settings_sha256=digest("relays", terms.settings_sha256, groups),
        group=0,
        groups=1,
        min_cohort=least,
        lanes=tuple((group.size, group.bits) for group in relay_ring(ring, groups).lanes),
        enrolment_root=terms.enrolment_root if enrolment_root is None else enrolment_root,
        server_key=server_key,
    )


def relay_row(summed: Summed, ring: Ring, root: Ring) -> Words:
    """Return a group's sum as a row of the root's sum, packed and not masked yet.

    Args:
        summed: What the group came to.
        ring: The group's ring.
        root: The root's, from `relay_ring`.

    Raises:
        LocalProtocolError: T554, a lane holds more than it was made for: some client of the group sent
            what is beyond its bounds.
    """
    ring.check(summed.total, [_most(group) for group in ring.lanes])
    return root.pack(summed.total)


class Relay:
    """One relay of a second-level sum: above it takes part as a client, with its group's sum for a row.

    It may join above before its group is done, and hands in its row when both the sum and the masks are
    there. If its group fails it leaves the root's sum, and the other groups' sum goes on without it.

    Args:
        client: Its machine for the root's sum.
        ring: Its group's ring.
        root: The root's.

    Raises:
        LocalProtocolError: T576, the root's lanes do not hold the group's.
    """

    def __init__(self, client: SecureClient, ring: Ring, root: Ring) -> None:
        if not _holds(root, ring):
            raise LocalProtocolError("T576", "the root's lanes do not hold those of the relay's group")
        self._client, self._ring, self._root = client, ring, root
        self._masks: tuple[Mask, ...] | None = None
        self._words: Words | None = None
        self._is_settled = False

    @property
    def complaint(self) -> Complaint | None:
        """Why the relay left the root's sum, for the root; None unless something was not right."""
        return self._client.complaint

    def receive(self, event: ClientEvent | Summed | GroupFailed) -> tuple[ClientEffect, ...]:
        """Take an event of the root's sum, or what the group came to; return what is to be done above.

        There is no `Masks` among it: the relay has the row, and masks it here.

        Raises:
            RemoteProtocolError: As `SecureClient.receive`; the row is overwritten.
            LocalProtocolError: As there; T512, the group has ended before.
        """
        try:
            if isinstance(event, Summed | GroupFailed):
                return self._settle(event)
            effects = self._client.receive(event)
        except BaseException:
            self._forget()
            raise
        for effect in effects:
            if isinstance(effect, Masks):
                self._masks = effect.masks
            if isinstance(effect, Closed):
                self._forget()
        return (*(e for e in effects if not isinstance(e, Masks)), *self._hand_in())

    def _settle(self, event: Summed | GroupFailed) -> tuple[ClientEffect, ...]:
        if self._is_settled:
            raise LocalProtocolError("T512", "a relay has one group, which has ended before")
        self._is_settled = True
        if isinstance(event, GroupFailed):
            return self.receive(Leave(event.reason))
        try:
            self._words = relay_row(event, self._ring, self._root)
        except LocalProtocolError:
            return self.receive(Leave(TOO_LARGE))
        if self._client.state in ("left", "aborted"):
            self._forget()  # the root's sum goes on without it
        return self._hand_in()

    def _hand_in(self) -> tuple[ClientEffect, ...]:
        if self._masks is None or self._words is None:
            return ()
        words, masks = self._words, self._masks
        self._words = self._masks = None
        add_masks(words, masks)
        return self._client.receive(RowReady(words))

    def _forget(self) -> None:
        """Overwrite the group's sum, if it is still in the clear."""
        if self._words is not None:
            self._words[:] = np.uint64(0)
        self._words = self._masks = None


def _holds(root: Ring, ring: Ring) -> bool:
    pairs = zip(root.lanes, ring.lanes, strict=False)
    return len(root.lanes) == len(ring.lanes) and all(a.size == b.size and a.bits > b.bits for a, b in pairs)


def _most(group: LaneGroup) -> int:
    """Return the largest absolute value that a lane can hold."""
    return 1 << (group.bits - 1)

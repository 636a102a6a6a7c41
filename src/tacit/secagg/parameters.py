"""How many neighbours a member of a group has, and how many of them it takes to open one of its secrets.

The conditions are those of Bell, Bonawitz, Gascón, Lepoint and Raykova, "Secure single-server aggregation
with (poly)logarithmic overhead" (CCS 2020, eprint 2020/704), for a server that follows the protocol and for
one that lies. Each is taken with its exact hypergeometric tail instead of the paper's closed bound, so that
the smallest safe graph is found. Every decision is one between integers: a client and its server find the
same numbers on any machine.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal, get_args

from tacit.core.errors import PlanError

Mode = Literal["malicious", "semi_honest"]
"""What a server may do: lie to its clients, or follow the protocol and be curious."""

SECURITY = 40
"""Somebody's update shows with a probability of at most 2^-40, over the choice of the graph."""
CORRECTNESS = 20
"""The sum cannot be opened with a probability of at most 2^-20 while dropouts stay within those expected."""
SMALLEST_GROUP = 3
"""Who is one of two knows the other's update once the sum is known."""
COMPLETE_BELOW = 50
"""Smaller groups are complete graphs: masks are few anyway, no draw of a graph is trusted, and the spare is
the largest there is."""

_DOUBT = 1e-6
"""Logarithms closer than this are compared as integers; rounding disturbs those of 10^6 clients by 1e-8."""


@dataclass(frozen=True)
class Threat:
    """Who is feared, and how many clients are expected to vanish.

    Attributes:
        corrupt: Largest share of any group that hands all it knows to the server; at least one member is
            assumed to, however small the share.
        dropout: Largest share of a group that vanishes during the round.
        mode: What the server may do.

    Raises:
        PlanError: A share is outside [0, 0.5) or [0, 0.9), or the mode is unknown (T187).
    """

    corrupt: float
    dropout: float
    mode: Mode

    def __post_init__(self) -> None:
        if not (0 <= self.corrupt < 0.5 and 0 <= self.dropout < 0.9 and self.mode in get_args(Mode)):
            raise PlanError(
                "T187",
                f"nothing is safe against {self.corrupt!r} corrupt, {self.dropout!r} lost and a server"
                f" called {self.mode!r}",
                fix="corrupt is in [0, 0.5), dropout in [0, 0.9), mode malicious or semi_honest.",
            )

    def corrupt_members(self, clients: int) -> int:
        """Return how many members of a group may be corrupt."""
        return max(1, _share(self.corrupt, clients))

    def lost_members(self, clients: int) -> int:
        """Return how many members of a group may vanish."""
        return _share(self.dropout, clients)

    def covers(self, other: "Threat") -> bool:
        """Tell whether parameters that are safe against this are safe against ``other`` too."""
        return self.corrupt >= other.corrupt and (self.mode == "malicious" or other.mode == "semi_honest")


@dataclass(frozen=True)
class GroupParameters:
    """The graph and the secret sharing of one group.

    Not checked by itself: a server's offer is held in it until ``weaker_than`` has judged it.

    Attributes:
        clients: Members of the group.
        neighbours: How many others each member shares masks and secrets with; even, or all of them.
        threshold: How many neighbours' shares open a secret of a member.
    """

    clients: int
    neighbours: int
    threshold: int

    @property
    def spare(self) -> int:
        """Dropouts that every member's secrets survive, whoever vanishes.

        In a complete graph one more makes the sum impossible to open; in a sparse one a member may lose no
        more of its *neighbours*, so more dropouts than these usually pass, up to the threat's ``dropout``.
        """
        return self.neighbours - self.threshold


@lru_cache(maxsize=1024)
def find_parameters(clients: int, threat: Threat) -> GroupParameters:
    """Return the cheapest safe parameters: the fewest neighbours, and the least threshold for them.

    A threshold ``t`` of ``k`` neighbours has to pass three conditions, the first two with probability
    1 - 2^-40 and the last with 1 - 2^-20, for all members at once:

    1. the graph without corrupt and lost members hangs together (``connectivity``), else the masks cancel
       in a part of the sum;
    2. no member has ``t`` corrupt neighbours (``privacy``). Under a server that lies 2 t > k + t1 as well,
       t1 the corrupt neighbours: then it cannot get ``t`` signatures for each of two survivor sets, nor
       ``t`` shares of both secrets of a member;
    3. every member keeps ``t`` neighbours (``correctness``).

    Where no sparse graph does, and in groups below ``COMPLETE_BELOW``, all are neighbours. The threshold is
    then the majority, or what comes nearest to it: a lower one would save nothing and let fewer members
    than half open another's update.

    Raises:
        PlanError: The group has fewer than three members, or nothing passes (T187).

    >>> find_parameters(1000, Threat(corrupt=0.1, dropout=0.1, mode="malicious"))
    GroupParameters(clients=1000, neighbours=96, threshold=67)
    >>> find_parameters(10, Threat(corrupt=0.1, dropout=0.1, mode="malicious")).spare
    3
    """
    if clients < SMALLEST_GROUP:
        raise PlanError(
            "T187",
            f"no parameters are safe for a group of {clients}: a sum of fewer than {SMALLEST_GROUP} updates"
            " shows them to each other",
            fix=f"Let at least {SMALLEST_GROUP} clients be in every group.",
        )
    found = _sparse(clients, threat) if clients >= COMPLETE_BELOW else None
    return found or _complete(clients, threat)


def weaker_than(offered: GroupParameters, required: GroupParameters) -> str:
    """Return why an offer protects its members less than what is required, or nothing if it does not.

    Neighbours and threshold are at least those required, and the spare is no larger. The last is what holds
    for every threat: ``d`` more neighbours may be ``d`` more corrupt ones, so a threshold raised by ``d`` as
    well keeps both t > t1 and 2 t > k + t1, and a threshold raised by less need not.

    >>> required = GroupParameters(clients=100, neighbours=32, threshold=22)
    >>> weaker_than(GroupParameters(clients=100, neighbours=32, threshold=21), required)
    'a threshold of 21 where 22 is required'
    """
    k, t, clients = offered.neighbours, offered.threshold, offered.clients
    if clients != required.clients:
        return f"parameters for {clients} members in a group of {required.clients}"
    if not t <= k < clients or (k % 2 and k != clients - 1):
        return f"{k} neighbours and a threshold of {t}, which {clients} members cannot have"
    if k < required.neighbours:
        return f"{k} neighbours where {required.neighbours} are required"
    if t < required.threshold:
        return f"a threshold of {t} where {required.threshold} is required"
    if offered.spare > required.spare:
        return f"a threshold of {t} for {k} neighbours, which opens with {required.spare} missing at most"
    return ""


def is_certain(parameters: GroupParameters, threat: Threat) -> bool:
    """Tell whether privacy holds for every draw of the graph, so that nobody gains by choosing its seed.

    A server that lies may try seeds (by the nonces of corrupt members, or by whom it admits) until a draw of
    small chance comes up, and pick who vanishes once it knows the graph. With c corrupt members in all and
    2 t > k + c neither helps, however many vanish. Suppose that the honest survivors fall into two parts.
    Twice round the circle one part ends and the other begins, with k/2 places or more between them; the
    member at the end has all its k/2 neighbours there corrupt or lost, and needs t - k/2 of them alive. That
    takes 2 (t - k/2) corrupt members, which is more than c.

    A server that follows the protocol does neither, and all that would have to be said is t > c and
    k > c + lost.
    """
    k, t = parameters.neighbours, parameters.threshold
    corrupt = threat.corrupt_members(parameters.clients)
    if threat.mode == "malicious":
        return 2 * t > k + corrupt
    return t > corrupt and (
        k == parameters.clients - 1 or k > corrupt + threat.lost_members(parameters.clients)
    )


def connectivity(clients: int, neighbours: int, bad: int) -> bool:
    """Tell whether a random Harary graph hangs together once its ``bad`` members are taken away.

    Two gaps of k/2 members in a row cut the circle. There are n (n-k-1) / 2 pairs of places, and k given
    members are all bad with probability C(n-k, bad-k) / C(n, bad): the union bound over the pairs must
    be below 2^-(SECURITY + 1).
    """
    if neighbours >= clients - 1:
        return True
    pairs = clients * (clients - neighbours - 1)  # twice their number: the power of two below is one less
    return pairs * math.perm(bad, neighbours) << SECURITY < math.perm(clients, neighbours)


def privacy(clients: int, neighbours: int, corrupt: int) -> int:
    """Return t1: no member has more corrupt neighbours, but with probability 2^-(SECURITY + 1)."""
    return most_among(clients, corrupt, neighbours, SECURITY + 1)


def correctness(clients: int, neighbours: int, lost: int) -> int:
    """Return how many neighbours any member loses at most, but with probability 2^-CORRECTNESS."""
    return most_among(clients, lost, neighbours, CORRECTNESS)


def most_among(clients: int, marked: int, drawn: int, bits: int) -> int:
    """Return the least x with P[Hyp(clients, marked, drawn) > x] <= 2^-bits / clients.

    The hypergeometric count is that of marked ones among ``drawn`` out of ``clients``; the division is the
    union bound over all members. ``bits`` is at least 1.
    """
    # Reaching the mode has a probability of 1 / (drawn + 1) at least: the answer is not below it.
    low, high = (drawn + 1) * (marked + 1) // (clients + 2), min(drawn, marked)
    while low < high:
        middle = (low + high) // 2
        if _is_rare(clients, marked, drawn, middle, bits):
            high = middle
        else:
            low = middle + 1
    return high


def _sparse(clients: int, threat: Threat) -> GroupParameters | None:
    corrupt, lost = threat.corrupt_members(clients), threat.lost_members(clients)
    for k in range(_fewest_connected(clients, corrupt + lost), clients - 1, 2):
        threshold = _least_threshold(k, privacy(clients, k, corrupt), threat.mode)
        if threshold <= k - correctness(clients, k, lost):
            return GroupParameters(clients, k, threshold)
    return None


def _fewest_connected(clients: int, bad: int) -> int:
    """Return the smallest even number of neighbours that passes; the bound falls as they become more."""
    high = 1
    while not connectivity(clients, 2 * high, bad):
        high *= 2
    low = high // 2 + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if connectivity(clients, 2 * middle, bad) else (middle + 1, high)
    return 2 * low


def _complete(clients: int, threat: Threat) -> GroupParameters:
    """Return the parameters of a group in which all are neighbours; nothing in it is left to chance."""
    k = clients - 1
    least = _least_threshold(k, threat.corrupt_members(clients), threat.mode)
    most = k - threat.lost_members(clients)
    if least > most:
        raise PlanError(
            "T187",
            f"no parameters are safe for a group of {clients} of which {threat.lost_members(clients)} may"
            f" vanish: opening a member's mask takes {least} of its {k} neighbours",
            fix="Expect fewer dropouts or corrupt clients, take larger groups, or, if the server can be"
            ' trusted to follow the protocol, mode="semi_honest".',
        )
    return GroupParameters(clients, k, min(max(least, k // 2 + 1), most))


def _least_threshold(neighbours: int, corrupt: int, mode: Mode) -> int:
    return (neighbours + corrupt) // 2 + 1 if mode == "malicious" else corrupt + 1


def _share(share: float, clients: int) -> int:
    """Return the whole number of members in a share, as it was written: 0.29 of 100 are 29, not 28."""
    return math.floor(Fraction(repr(float(share))) * clients)


def _is_rare(clients: int, marked: int, drawn: int, above: int, bits: int) -> bool:
    """Tell whether P[Hyp(clients, marked, drawn) > above] <= 2^-bits / clients, ``above`` the mode or more.

    Logarithms decide, and exact integers where those come too close to each other.
    """
    tail = _log_tail(clients, marked, drawn, above)
    bound = -bits * math.log(2) - math.log(clients)
    if abs(tail - bound) > _DOUBT:
        return tail < bound
    terms = range(above + 1, min(drawn, marked) + 1)
    ways = sum(math.comb(marked, i) * math.comb(clients - marked, drawn - i) for i in terms)
    return ways * clients << bits <= math.comb(clients, drawn)


def _log_tail(clients: int, marked: int, drawn: int, above: int) -> float:
    """Return log P[Hyp > above]: its first term by log-gamma, the others by their ratio to the one before."""
    i = above + 1
    if i > min(drawn, marked):
        return -math.inf
    first = _log_comb(marked, i) + _log_comb(clients - marked, drawn - i) - _log_comb(clients, drawn)
    term = total = 1.0
    while term > 1e-17 * total:
        term *= (marked - i) * (drawn - i) / ((i + 1) * (clients - marked - drawn + i + 1))
        total += term
        i += 1
    return first + math.log(total)


def _log_comb(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

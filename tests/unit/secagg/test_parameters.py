"""Neighbours and thresholds: the published figures, and each condition computed in another way."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from tacit.core.errors import PlanError
from tacit.secagg import parameters
from tacit.secagg.graph import neighbours
from tacit.secagg.parameters import (
    CORRECTNESS,
    SECURITY,
    GroupParameters,
    Mode,
    Threat,
    connectivity,
    correctness,
    find_parameters,
    is_certain,
    most_among,
    privacy,
    weaker_than,
)

MODES: tuple[Mode, Mode] = ("semi_honest", "malicious")
THREATS = st.builds(
    Threat,
    corrupt=st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.33]),
    dropout=st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.3]),
    mode=st.sampled_from(MODES),
)

# clients, corrupt, dropout, (k, t) of a server that follows the protocol, (k, t) of one that lies.
TABLE = [
    (50, 0.1, 0.1, (12, 6), (16, 11)),
    (100, 0.1, 0.1, (22, 11), (32, 22)),
    (100, 0.33, 0.1, (42, 32), (54, 44)),
    (1000, 0.05, 0.05, (30, 17), (52, 37)),
    (1000, 0.1, 0.1, (48, 27), (96, 67)),
    (1000, 0.2, 0.1, (68, 44), (140, 104)),
    (10**4, 0.1, 0.1, (54, 31), (122, 85)),
    (10**6, 0.1, 0.1, (64, 36), (146, 101)),
    (1000, 0.1, 0.3, (88, 36), (414, 247)),
]
# What google-parfait/federated-compute expects (fcp/secagg/server/graph_parameter_finder_test.cc), in
# percent and by the power of ten of the clients.
PEER: dict[tuple[int, int, Mode], dict[int, tuple[int, int]]] = {
    (45, 45, "semi_honest"): {2: (92, 46), 3: (822, 417)},
    (33, 33, "semi_honest"): {2: (68, 34), 3: (286, 150), 4: (422, 221), 5: (480, 251), 6: (518, 270)},
    (30, 30, "malicious"): {2: (92, 62), 3: (872, 584)},
    (5, 33, "semi_honest"): {2: (28, 6), 3: (72, 24), 4: (86, 29), 5: (96, 32), 6: (102, 34)},
    (5, 33, "malicious"): {2: (72, 39), 3: (398, 223), 4: (746, 420), 5: (882, 496), 6: (970, 545)},
    (33, 5, "semi_honest"): {2: (34, 29), 3: (78, 60), 4: (92, 70), 5: (102, 77), 6: (110, 83)},
    (33, 5, "malicious"): {2: (42, 37), 3: (132, 109), 4: (178, 146), 5: (196, 160), 6: (212, 173)},
    (5, 5, "semi_honest"): {2: (12, 6), 3: (30, 17), 4: (34, 20), 5: (36, 21), 6: (38, 22)},
    (5, 5, "malicious"): {2: (16, 11), 3: (52, 37), 4: (62, 44), 5: (68, 48), 6: (74, 52)},
    (33, 0, "semi_honest"): {2: (26, 25), 3: (38, 36), 4: (42, 40), 5: (46, 44), 6: (50, 47)},
    (33, 0, "malicious"): {2: (26, 26), 3: (38, 37), 4: (42, 41), 5: (46, 45), 6: (50, 49)},
    (0, 33, "malicious"): {2: (68, 35), 3: (228, 115), 4: (326, 164), 5: (372, 187), 6: (410, 206)},
}


@pytest.mark.parametrize(("clients", "corrupt", "dropout", "semi_honest", "malicious"), TABLE)
def test_parameters_are_the_published_ones(
    clients: int, corrupt: float, dropout: float, semi_honest: tuple[int, int], malicious: tuple[int, int]
) -> None:
    for mode, (k, t) in zip(MODES, (semi_honest, malicious), strict=True):
        found = find_parameters(clients, Threat(corrupt, dropout, mode))
        assert found == GroupParameters(clients, neighbours=k, threshold=t)


@pytest.mark.parametrize("threat", PEER)
def test_parameters_are_those_of_another_implementation(threat: tuple[int, int, Mode]) -> None:
    corrupt, dropout, mode = threat
    for power, (k, t) in PEER[threat].items():
        found = find_parameters(10**power, Threat(corrupt / 100, dropout / 100, mode))
        assert (found.neighbours, found.threshold) == (k, t)


# ---- The tails -----------------------------------------------------------------------------------


@pytest.mark.parametrize("clients", [3, 5, 8, 11])
def test_tails_are_those_of_counting_every_draw(clients: int) -> None:
    for marked, drawn in itertools.product(range(clients + 1), range(1, clients + 1)):
        draws = list(itertools.combinations(range(clients), drawn))
        counts = Counter(sum(one < marked for one in draw) for draw in draws)
        for bits in range(1, 11):
            least = next(
                x
                for x in range(drawn + 1)
                if Fraction(sum(n for count, n in counts.items() if count > x), len(draws))
                <= Fraction(1, 2**bits * clients)
            )
            assert most_among(clients, marked, drawn, bits) == least


@given(
    clients=st.integers(3, 3000),
    marked=st.floats(0, 1),
    drawn=st.floats(0, 1),
    bits=st.sampled_from([10, 20, 41]),
)
def test_tails_are_those_of_scipy(clients: int, marked: float, drawn: float, bits: int) -> None:
    many, some = round(marked * clients), round(drawn * (clients - 1))
    found, bound = most_among(clients, many, some, bits), 2.0**-bits / clients
    spread = hypergeom(clients, many, some)
    assert spread.sf(found) <= bound * (1 + 1e-6)
    if found > 0:
        assert spread.sf(found - 1) > bound * (1 - 1e-6)


@given(clients=st.integers(3, 400), data=st.data(), bits=st.sampled_from([1, 20, 41]))
def test_logarithms_decide_as_whole_numbers_do(clients: int, data: st.DataObject, bits: int) -> None:
    marked, drawn = data.draw(st.integers(0, clients)), data.draw(st.integers(0, clients - 1))
    by_logarithms = most_among(clients, marked, drawn, bits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameters, "_DOUBT", math.inf)
        assert most_among(clients, marked, drawn, bits) == by_logarithms


@pytest.mark.parametrize("error", [-1e-8, 0.0, 1e-8])
def test_a_machine_with_worse_logarithms_finds_the_same(
    error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_tail = parameters._log_tail  # noqa: SLF001 - the one place where machines may differ
    monkeypatch.setattr(parameters, "_log_tail", lambda *count: log_tail(*count) + error)
    # Two of five are marked: both are among two drawn with probability 1/10, which is the bound 2^-1 / 5.
    assert most_among(5, 2, 2, bits=1) == 1


@pytest.mark.parametrize(("clients", "degree"), [(9, 4), (10, 6), (12, 4), (13, 8)])
def test_a_graph_falls_apart_no_oftener_than_its_bound(
    clients: int, degree: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = neighbours(clients, degree, b"any: the bad members are drawn instead of the order")
    for bad in range(clients - 1):
        draws = list(itertools.combinations(range(clients), bad))
        cut = Fraction(sum(_is_cut(graph, set(draw)) for draw in draws), len(draws))
        pairs = Fraction(clients * (clients - degree - 1), 2)
        bound = pairs * Fraction(math.perm(bad, degree), math.perm(clients, degree))
        assert cut <= bound
        for bits in range(8):
            monkeypatch.setattr(parameters, "SECURITY", bits)
            assert connectivity(clients, degree, bad) == (bound < Fraction(1, 2 ** (bits + 1)))


@given(clients=st.integers(5, 300), data=st.data())
def test_more_neighbours_hang_together_better(clients: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, clients))
    passes = [connectivity(clients, k, bad) for k in range(2, clients)]
    assert passes == sorted(passes)
    assert passes[-1]  # all are neighbours of all


# ---- What is found -------------------------------------------------------------------------------


def _passes(clients: int, k: int, t: int, threat: Threat) -> bool:
    """The three conditions, by scipy."""
    corrupt, lost = threat.corrupt_members(clients), threat.lost_members(clients)
    return (
        _is_private(clients, k, t, threat)
        and _hangs_together(clients, k, corrupt + lost)
        and bool(hypergeom.cdf(t - 1, clients, clients - lost, k) <= 2.0**-CORRECTNESS / clients)
    )


def _is_private(clients: int, k: int, t: int, threat: Threat) -> bool:
    t1 = 2 * t - k - 1 if threat.mode == "malicious" else t - 1
    chance = hypergeom.sf(t1, clients, threat.corrupt_members(clients), k)
    return t1 >= 0 and bool(chance <= 2.0 ** -(SECURITY + 1) / clients)


def _hangs_together(clients: int, k: int, bad: int) -> bool:
    if k == clients - 1:
        return True
    pairs = clients * (clients - k - 1) / 2
    return bool(pairs * hypergeom.pmf(k, clients, bad, k) < 2.0 ** -(SECURITY + 1))


@settings(max_examples=25)
@given(clients=st.integers(50, 400), threat=THREATS)
def test_what_is_found_passes_and_nothing_cheaper_does(clients: int, threat: Threat) -> None:
    try:
        found = find_parameters(clients, threat)
    except PlanError:
        found = GroupParameters(clients, clients - 1, clients)
        assert not any(_passes(clients, clients - 1, t, threat) for t in range(1, clients))
    else:
        assert _passes(clients, found.neighbours, found.threshold, threat)
    if found.neighbours < clients - 1:
        assert not _passes(clients, found.neighbours, found.threshold - 1, threat)
    for k in range(2, found.neighbours, 2):
        tail = hypergeom.sf(np.arange(k + 1), clients, threat.corrupt_members(clients), k)
        t1 = int(np.argmax(tail <= 2.0 ** -(SECURITY + 1) / clients))
        least = (k + t1) // 2 + 1 if threat.mode == "malicious" else t1 + 1
        assert not _passes(clients, k, least, threat)


@settings(max_examples=40)
@given(clients=st.integers(3, 300), threat=THREATS)
def test_a_worse_threat_takes_no_fewer_neighbours(clients: int, threat: Threat) -> None:
    def cost(corrupt: float, dropout: float, mode: Mode) -> tuple[float, float]:
        try:
            found = find_parameters(clients, Threat(corrupt, dropout, mode))
        except PlanError:
            return math.inf, math.inf
        return found.neighbours, found.threshold

    k, t = cost(threat.corrupt, threat.dropout, threat.mode)
    more_corrupt = cost(threat.corrupt + 0.1, threat.dropout, threat.mode)
    assert more_corrupt[0] >= k
    assert more_corrupt[1] >= t
    assert cost(threat.corrupt, threat.dropout + 0.1, threat.mode)[0] >= k
    lying = cost(threat.corrupt, threat.dropout, "malicious")
    assert lying[0] >= k
    assert lying[1] >= t


def test_a_share_means_what_was_written() -> None:
    assert Threat(0.29, 0.57, "semi_honest").corrupt_members(100) == 29  # 0.29 * 100 is 28.999999999999996
    assert Threat(0.29, 0.57, "semi_honest").lost_members(100) == 57  # 0.57 * 100 is 56.99999999999999
    assert Threat(0.1, 0.1, "semi_honest").lost_members(9) == 0


@pytest.mark.parametrize("clients", [3, 9, 100, 1000])
def test_one_member_is_always_taken_to_be_corrupt(clients: int) -> None:
    threat = Threat(corrupt=0.0, dropout=0.0, mode="semi_honest")
    assert threat.corrupt_members(clients) == 1
    assert find_parameters(clients, threat).threshold >= 2


# ---- Small groups --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clients", "semi_honest", "malicious"),
    [
        (3, (2, 0), (2, 0)),  # (threshold, spare)
        (4, (2, 1), (3, 0)),
        (5, (3, 1), (3, 1)),
        (6, (3, 2), (4, 1)),
        (7, (4, 2), (4, 2)),
        (8, (4, 3), (5, 2)),
        (10, (5, 4), (6, 3)),
        (12, (6, 5), (7, 4)),
        (15, (8, 6), (8, 6)),
        (20, (10, 9), (11, 8)),
        (30, (15, 14), (17, 12)),
        (49, (25, 23), (27, 21)),
    ],
)
def test_all_members_of_a_small_group_are_neighbours_and_nearly_half_may_vanish(
    clients: int, semi_honest: tuple[int, int], malicious: tuple[int, int]
) -> None:
    for mode, expected in zip(MODES, (semi_honest, malicious), strict=True):
        found = find_parameters(clients, Threat(0.1, 0.1, mode))
        assert found.neighbours == clients - 1
        assert (found.threshold, found.spare) == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("clients", [4, 7, 10, 50])
def test_every_secret_survives_the_spare_whoever_vanishes(clients: int, mode: Mode) -> None:
    found = find_parameters(clients, Threat(0.1, 0.1, mode))
    graph = neighbours(clients, found.neighbours, b"any")
    worst = [set(others[: found.spare]) for others in graph]  # all that vanish are neighbours of one
    assert all(len(set(others) - gone) >= found.threshold for others in graph for gone in worst)
    if clients < 50:
        assert len(set(graph[0]) - set(graph[0][: found.spare + 1])) < found.threshold


@given(clients=st.integers(3, 49), threat=THREATS)
def test_no_minority_of_a_small_group_opens_a_secret_unless_the_dropouts_ask_for_it(
    clients: int, threat: Threat
) -> None:
    try:
        found = find_parameters(clients, threat)
    except PlanError:
        return
    assert threat.corrupt_members(clients) < found.threshold
    assert 2 * found.threshold > clients - 1 or found.spare == threat.lost_members(clients)
    assert found.spare >= threat.lost_members(clients)


@given(clients=st.integers(3, 300), corrupt=st.sampled_from([0, 0.1, 0.2, 0.33]))
def test_a_lying_server_never_gets_enough_for_two_views_of_one_member(clients: int, corrupt: float) -> None:
    threat = Threat(corrupt, 0.1, "malicious")
    found = find_parameters(clients, threat)
    k, t = found.neighbours, found.threshold
    bad = min(privacy(clients, k, threat.corrupt_members(clients)), k)
    # Corrupt neighbours sign both views and give both shares; an honest one is told one of the two.
    assert not any(told + bad >= t and k - bad - told + bad >= t for told in range(k - bad + 1))


@pytest.mark.parametrize("clients", [0, 1, 2])
def test_no_parameters_are_safe_for_fewer_than_three(clients: int) -> None:
    with pytest.raises(PlanError, match="fewer than 3 updates") as caught:
        find_parameters(clients, Threat(0.1, 0.1, "semi_honest"))
    assert caught.value.code == "T187"


@pytest.mark.parametrize(("clients", "dropout"), [(4, 0.3), (10, 0.5), (100, 0.5), (1000, 0.45)])
def test_dropouts_that_a_lying_server_could_feign_are_refused(clients: int, dropout: float) -> None:
    with pytest.raises(PlanError, match="may vanish") as caught:
        find_parameters(clients, Threat(0.1, dropout, "malicious"))
    assert caught.value.code == "T187"
    assert find_parameters(clients, Threat(0.1, dropout, "semi_honest")).clients == clients


@pytest.mark.parametrize(
    ("corrupt", "dropout", "mode"),
    [
        (0.5, 0.1, "malicious"),
        (-0.1, 0.1, "malicious"),
        (0.1, 0.9, "malicious"),
        (0.1, -0.1, "malicious"),
        (math.nan, 0.1, "malicious"),
        (0.1, math.nan, "malicious"),
        (0.1, 0.1, "honest"),
    ],
)
def test_a_threat_that_means_nothing_is_refused(corrupt: float, dropout: float, mode: Mode) -> None:
    with pytest.raises(PlanError) as caught:
        Threat(corrupt, dropout, mode)
    assert caught.value.code == "T187"


def test_a_threat_covers_those_that_fear_less() -> None:
    threat = Threat(0.2, 0.1, "malicious")
    assert threat.covers(threat)
    assert threat.covers(Threat(0.1, 0.3, "semi_honest"))
    assert not threat.covers(Threat(0.3, 0.1, "semi_honest"))
    assert not Threat(0.2, 0.1, "semi_honest").covers(threat)


# ---- Offers --------------------------------------------------------------------------------------

REQUIRED = GroupParameters(clients=100, neighbours=32, threshold=22)


def test_what_is_required_is_no_weaker_than_itself() -> None:
    assert weaker_than(REQUIRED, REQUIRED) == ""


@pytest.mark.parametrize(("k", "t"), [(32, 23), (32, 32), (34, 24), (40, 30), (99, 89), (99, 99)])
def test_a_stronger_offer_is_taken(k: int, t: int) -> None:
    assert weaker_than(GroupParameters(100, k, t), REQUIRED) == ""


@pytest.mark.parametrize(
    ("offered", "why"),
    [
        (GroupParameters(100, 30, 22), "30 neighbours where 32 are required"),
        (GroupParameters(100, 32, 21), "a threshold of 21 where 22 is required"),
        (GroupParameters(100, 44, 22), "which opens with 10 missing at most"),  # 2 t = k
        (GroupParameters(100, 34, 22), "which opens with 10 missing at most"),  # 2 t = k + t1
        (GroupParameters(100, 99, 22), "which opens with 10 missing at most"),
        (GroupParameters(100, 33, 24), "which 100 members cannot have"),
        (GroupParameters(100, 100, 95), "which 100 members cannot have"),
        (GroupParameters(100, 32, 33), "which 100 members cannot have"),
        (GroupParameters(99, 32, 22), "parameters for 99 members in a group of 100"),
        (GroupParameters(100, -2, -3), "neighbours where 32 are required"),
    ],
)
def test_a_weaker_offer_is_refused_with_the_reason(offered: GroupParameters, why: str) -> None:
    assert why in weaker_than(offered, REQUIRED)


@pytest.mark.parametrize(("clients", "corrupt", "dropout", "semi_honest", "malicious"), TABLE[:7])
@pytest.mark.parametrize("mode", MODES)
def test_no_offer_is_taken_that_protects_less_than_the_threat_asks(
    clients: int,
    corrupt: float,
    dropout: float,
    semi_honest: tuple[int, int],
    malicious: tuple[int, int],
    mode: Mode,
) -> None:
    threat = Threat(corrupt, dropout, mode)
    k, t = semi_honest if mode == "semi_honest" else malicious
    required, taken = GroupParameters(clients, k, t), 0
    for more, higher in itertools.product(range(-4, 25, 2), range(-4, 25)):
        if weaker_than(GroupParameters(clients, k + more, t + higher), required) == "":
            taken += 1
            assert _is_private(clients, k + more, t + higher, threat)
            assert _hangs_together(clients, k + more, sum(_bad(threat, clients)))
    assert taken > 50


def _bad(threat: Threat, clients: int) -> tuple[int, int]:
    return threat.corrupt_members(clients), threat.lost_members(clients)


# ---- Nothing left to chance ----------------------------------------------------------------------


def test_groups_of_the_default_size_leave_nothing_to_chance() -> None:
    threat = Threat(0.1, 0.1, "malicious")
    assert all(is_certain(find_parameters(n, threat), threat) for n in range(3, 201))
    assert not is_certain(find_parameters(1000, threat), threat)
    curious = Threat(0.1, 0.1, "semi_honest")
    assert all(is_certain(find_parameters(n, curious), curious) for n in range(3, 102))
    assert not is_certain(find_parameters(1000, curious), curious)


@pytest.mark.parametrize("corrupt", [1, 2])
@pytest.mark.parametrize(("clients", "k"), [(8, 4), (10, 4), (10, 6)])
def test_a_graph_is_cut_while_every_survivor_keeps_its_threshold_only_by_chance(
    clients: int, k: int, corrupt: int
) -> None:
    """Every place of the corrupt and every choice of the vanished, both made with the graph in sight."""
    threat = Threat((corrupt + 0.5) / clients, 0.0, "malicious")
    assert threat.corrupt_members(clients) == corrupt
    graph = neighbours(clients, k, b"any")
    for t in range(k // 2, k + 1):
        certain = is_certain(GroupParameters(clients, k, t), threat)
        assert certain == (2 * t > k + corrupt)
        if certain:
            assert not _can_be_cut(graph, t, corrupt)
        elif clients >= 2 * k + 2:  # there is room for two gaps and two parts
            assert _can_be_cut(graph, t, corrupt)


def _can_be_cut(graph: tuple[tuple[int, ...], ...], t: int, corrupt: int) -> bool:
    clients = len(graph)
    for bad in itertools.combinations(range(clients), corrupt):
        honest = [member for member in range(clients) if member not in bad]
        for lost in range(len(honest) - 1):
            for gone in itertools.combinations(honest, lost):
                left = set(honest) - set(gone)
                alive = left | set(bad)
                if all(len(alive & set(graph[member])) >= t for member in left) and _is_cut(
                    graph, set(gone) | set(bad)
                ):
                    return True
    return False


def _is_cut(graph: tuple[tuple[int, ...], ...], gone: set[int]) -> bool:
    left = set(range(len(graph))) - gone
    reached = [left.pop()]
    while reached:
        for other in graph[reached.pop()]:
            if other in left:
                left.remove(other)
                reached.append(other)
    return bool(left)


def test_correctness_counts_the_neighbours_that_may_be_lost() -> None:
    assert correctness(1000, 48, 100) == most_among(1000, 100, 48, CORRECTNESS)
    assert hypergeom.cdf(48 - correctness(1000, 48, 100) - 1, 1000, 900, 48) <= 2.0**-CORRECTNESS / 1000

"""Laws of every rule: a commutative monoid, exact to the last bit."""

from functools import reduce

import numpy as np
from hypothesis import given

from tacit.codec import Chain, Codec, Weigh
from tacit.core.layout import Rows
from tacit.core.rule import Grid, Partial, Rule
from tacit.testing.strategies import context, sound_rows, spec

_CODEC = Codec(Chain((Weigh(),)), spec())
_GRID = Grid.for_sum(_CODEC.sent, clients=64)


def law_a_relay_does_not_change_the_sum(rule: Rule) -> None:
    """Check: groups that a relay has merged equal the same groups in one big sum, to the last bit."""

    @given(near=sound_rows(), far=sound_rows())
    def law(near: Rows, far: Rows) -> None:
        relayed = rule.merge(_lift(rule, near), _lift(rule, far))
        total = rule.empty(_GRID).total
        for group in (far, near):
            rule.fold(_encode(group), _GRID, total)
        assert _same(relayed, Partial(total, len(near) + len(far)))

    law()


def law_a_group_is_the_sum_of_its_clients(rule: Rule) -> None:
    """Check: clients summed together are those summed one by one, to half a step each.

    A group may be summed in floating point before it goes on the grid, so float64's rounding comes on top.
    """

    @given(sent=sound_rows())
    def law(sent: Rows) -> None:
        rows = _encode(sent)
        alone = [rule.lift(row[None], _GRID) for row in rows]
        apart = reduce(rule.merge, alone)
        together = rule.lift(rows, _GRID)
        assert together.clients == apart.clients
        steps = np.concatenate([np.full(lane.size, lane.step) for lane in _GRID.lanes])
        rounding = len(rows) * (np.abs(rows, dtype=np.float64) / steps).sum(axis=0) * 2.0**-53
        difference = np.abs(together.total - apart.total)
        assert (difference <= np.ceil((len(rows) + 1) / 2 + rounding)).all()

    law()


def law_merging_is_associative_and_commutative(rule: Rule) -> None:
    """Check: neither order nor grouping changes a bit, and the empty sum changes nothing."""

    @given(a=sound_rows(), b=sound_rows(), c=sound_rows())
    def law(a: Rows, b: Rows, c: Rows) -> None:
        x, y, z = _lift(rule, a), _lift(rule, b), _lift(rule, c)
        assert _same(rule.merge(x, y), rule.merge(y, x))
        assert _same(rule.merge(rule.merge(x, y), z), rule.merge(x, rule.merge(y, z)))
        assert _same(rule.merge(x, rule.empty(_GRID)), x)

    law()


def law_folding_is_lifting_and_merging(rule: Rule) -> None:
    """Check: rows added to a sum under way equal rows lifted and merged."""

    @given(near=sound_rows(), far=sound_rows())
    def law(near: Rows, far: Rows) -> None:
        partial = _lift(rule, near)
        rule.fold(_encode(far), _GRID, partial.total)
        assert np.array_equal(partial.total, rule.merge(_lift(rule, near), _lift(rule, far)).total)

    law()


def law_nothing_has_no_mean(rule: Rule) -> None:
    """Check: the mean of an empty cohort is None, or zero over a public number; never a division by zero."""
    empty = _GRID.to_float(rule.empty(_GRID).total)
    mean = rule.finish(empty, _CODEC.sent)
    assert mean is None or not mean.any()


def law_the_mean_of_equal_updates_is_that_update(rule: Rule) -> None:
    """Check: whatever their weights, equal updates have that mean, to float32's rounding.

    A rule that divides by a public number gives their sum over that number instead.
    """
    public = getattr(rule, "denominator", None)

    @given(sent=sound_rows())
    def law(sent: Rows) -> None:
        equal = np.repeat(sent[:1], 4, axis=0)
        mean = rule.finish(_GRID.to_float(_lift(rule, equal).total), _CODEC.sent)
        assert mean is not None
        if public is None:
            np.testing.assert_allclose(mean, equal[0], rtol=2e-6, atol=2e-9)
        else:
            total = _encode(equal)[:, : len(mean)].sum(axis=0, dtype=np.float64)
            np.testing.assert_allclose(mean, total / public, rtol=2e-6, atol=2e-9 * _CODEC.sent.size)

    law()


def _encode(sent: Rows) -> Rows:
    return _CODEC.encode(sent.copy(), {}, context(len(sent)))[0]


def _lift(rule: Rule, sent: Rows) -> Partial:
    return rule.lift(_encode(sent), _GRID)


def _same(a: Partial, b: Partial) -> bool:
    return a.clients == b.clients and np.array_equal(a.total, b.total)

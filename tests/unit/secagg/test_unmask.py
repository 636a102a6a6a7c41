"""Unmasking: in parts and side by side, a sum of masked rows becomes the sum of the rows."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import LocalProtocolError
from tacit.secagg.masks import Mask, add_masks
from tacit.secagg.ring import Integers, LaneGroup, Ring, Words
from tacit.secagg.unmask import Unmasking, chunks

CLIENTS = 6
DROPPED = (2, 4)
RING = Ring((LaneGroup(size=70_000, bits=16), LaneGroup(size=2, bits=52)))


def key_of(*names: int) -> bytes:
    return hashlib.sha256(repr(names).encode()).digest()[:16]


def pair_masks(client: int) -> list[Mask]:
    others = [i for i in range(CLIENTS) if i != client]
    return [Mask(key_of(*sorted((client, i))), 1 if client < i else -1) for i in others]


def rows() -> list[Integers]:
    rng = np.random.default_rng(0)
    return [rng.integers(-5000, 5000, RING.size) for _ in range(CLIENTS)]


def masked_sum(survivors: list[int]) -> Words:
    total = np.zeros(RING.words, np.uint64)
    for client in survivors:
        words = RING.pack(rows()[client])
        add_masks(words, [Mask(key_of(client), 1), *pair_masks(client)])
        total += words
    return total


def unmasking(survivors: list[int]) -> Unmasking:
    """Take off the survivors' own masks, and those they have with the dead; the other pairs cancelled."""
    own = [Mask(key_of(client), -1) for client in survivors]
    dead = [i for i in range(CLIENTS) if i not in survivors]
    # What a dead client would have added, and nobody did.
    pairs = [mask for client in dead for mask in pair_masks(client)]
    among_dead = {key_of(*pair) for pair in combinations(dead, 2)}
    return Unmasking((*own, *(mask for mask in pairs if mask.key not in among_dead)), RING.words)


@pytest.mark.parametrize("dead", [(), DROPPED])
def test_unmasking_leaves_the_survivors_exact_sum(dead: tuple[int, ...]) -> None:
    survivors = [i for i in range(CLIENTS) if i not in dead]
    total, work = masked_sum(survivors), unmasking(survivors)
    work.apply(total, slice(0, RING.words))
    np.testing.assert_array_equal(RING.unpack(total), sum(rows()[i] for i in survivors))


def test_parts_may_go_side_by_side_and_in_any_order() -> None:
    survivors = [i for i in range(CLIENTS) if i not in DROPPED]
    total, work = masked_sum(survivors), unmasking(survivors)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda part: work.apply(total, part), reversed(chunks(RING.words, 2000))))
    np.testing.assert_array_equal(RING.unpack(total), sum(rows()[i] for i in survivors))


def test_with_one_mask_left_on_nothing_of_the_sum_is_seen() -> None:
    survivors = [i for i in range(CLIENTS) if i not in DROPPED]
    work = unmasking(survivors)
    for missing in range(len(work.masks)):
        total = masked_sum(survivors)
        kept = (*work.masks[:missing], *work.masks[missing + 1 :])
        Unmasking(kept, RING.words).apply(total, slice(0, RING.words))
        words = RING.pack(np.sum([rows()[i] for i in survivors], axis=0))
        # What is left beside the sum is a whole keystream: every byte of it is as likely as any other.
        counts = np.bincount((total - words).view(np.uint8), minlength=256)
        expected = 8 * RING.words / 256
        assert ((counts - expected) ** 2 / expected).sum() < 400


@given(words=st.integers(0, 5000), most=st.integers(2, 600))
def test_parts_cover_every_word_once_and_begin_with_a_block_of_the_cipher(words: int, most: int) -> None:
    parts = chunks(words, most)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(words))
    assert all(part.start % 2 == 0 and 0 < part.stop - part.start <= most for part in parts)
    sizes = [part.stop - part.start for part in parts]
    assert not sizes or max(sizes) - min(sizes) <= 3


@pytest.mark.parametrize(("words", "most"), [(-1, 2), (10, 1), (10, 0)])
def test_impossible_parts_are_refused(words: int, most: int) -> None:
    with pytest.raises(ValueError, match="parts"):
        chunks(words, most)


@pytest.mark.parametrize("part", [slice(1, 4), slice(0, 4, 2), slice(4, 0, -1)])
def test_what_is_no_part_is_refused(part: slice) -> None:
    with pytest.raises(LocalProtocolError, match="T554"):
        Unmasking((Mask(bytes(16), 1),), words=8).apply(np.zeros(8, np.uint64), part)


def test_another_sum_than_the_planned_one_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="T554"):
        Unmasking((), words=8).apply(np.zeros(9, np.uint64), slice(0, 8))


def test_the_work_does_not_print_its_masks() -> None:
    assert repr(Unmasking((Mask(b"sixteen secrets!", 1),), 8)) == "Unmasking(words=8)"

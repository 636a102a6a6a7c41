"""Masks: what they add is AES's keystream, in whatever parts, and nothing of it stays behind."""

import hashlib
import pickle
import struct
from itertools import pairwise

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from tacit.secagg import masks as module
from tacit.secagg.masks import Mask, add_masks, keystream_words
from tacit.secagg.ring import Words

BLOCK = 2**15


def key_of(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(4, "big")).digest()[:16]


def row_of(words: int) -> Words:
    return np.random.default_rng(words).integers(0, 2**64, words, dtype=np.uint64)


def keystream_plainly(key: bytes, words: int) -> list[int]:
    """Encrypt the block numbers themselves, and read the outcome word by word: counter mode by hand."""
    blocks = b"".join(number.to_bytes(16, "big") for number in range(-(-words // 2)))
    stream = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(blocks)
    return [word for (word,) in struct.iter_unpack("<Q", stream)][:words]


@pytest.mark.parametrize("words", [0, 1, 2, 3, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_a_mask_is_the_keystream_of_its_key(words: int) -> None:
    assert keystream_words(key_of(1), words).tolist() == keystream_plainly(key_of(1), words)


@pytest.mark.parametrize("words", [1, 17, 2 * BLOCK + 3])
def test_masks_are_added_and_taken_off_modulo_the_word(words: int) -> None:
    row = row_of(words)
    masked = row.copy()
    add_masks(masked, [Mask(key_of(1), 1), Mask(key_of(2), -1), Mask(key_of(3), -1)])
    streams = [keystream_plainly(key_of(i), words) for i in (1, 2, 3)]
    expected = [(w + a - b - c) % 2**64 for w, a, b, c in zip(row.tolist(), *streams, strict=True)]
    assert masked.tolist() == expected
    add_masks(masked, [Mask(key_of(3), 1), Mask(key_of(1), -1), Mask(key_of(2), 1)])
    np.testing.assert_array_equal(masked, row)


@given(words=st.integers(0, 300), cuts=st.lists(st.integers(0, 150), max_size=5))
def test_a_row_masked_in_parts_is_masked_as_a_whole(words: int, cuts: list[int]) -> None:
    masks = [Mask(key_of(i), sign) for i, sign in enumerate((1, -1, 1))]
    whole, parts = row_of(words), row_of(words)
    add_masks(whole, masks)
    ends = sorted({0, words, *(min(2 * cut, words) for cut in cuts)})
    for begin, end in pairwise(ends):
        add_masks(parts[begin:end], masks, first_word=begin)
    np.testing.assert_array_equal(parts, whole)


def test_a_part_far_into_a_row_has_the_stream_of_its_place() -> None:
    begin = 2 * BLOCK + 2
    whole = keystream_words(key_of(1), 5 * BLOCK)
    np.testing.assert_array_equal(keystream_words(key_of(1), 2 * BLOCK, begin), whole[begin:][: 2 * BLOCK])


def test_no_two_parts_of_a_row_and_no_two_keys_have_a_stream_in_common() -> None:
    streams = np.concatenate([keystream_words(key_of(i), 3 * BLOCK) for i in range(4)])
    assert len(np.unique(streams)) == len(streams)


def test_a_masked_row_looks_uniform() -> None:
    masked = np.zeros(2**17, np.uint64)
    add_masks(masked, [Mask(key_of(1), 1), Mask(key_of(2), -1)])
    counts = np.bincount(masked.view(np.uint8), minlength=256)
    # Chi-square with 255 degrees of freedom: 400 is more than six standard deviations up.
    assert ((counts - 4096) ** 2 / 4096).sum() < 400
    bits = np.unpackbits(masked.view(np.uint8)).reshape(-1, 64).mean(axis=0)
    assert abs(bits - 0.5).max() < 0.01


def test_nothing_of_a_mask_stays_in_memory_that_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = vars(module)
    aligned, buffers = inside["_aligned"], []

    def remember(words: int) -> Words:
        buffers.append(aligned(words))
        return buffers[-1]

    monkeypatch.setattr(module, "_aligned", remember)
    assert keystream_words(key_of(1), 2 * BLOCK + 1).any()
    assert [len(buffer) for buffer in buffers] == [BLOCK]
    assert not buffers[0].any()
    # Were these not zeros, what is added would not be a keystream any more.
    assert not inside["_ZEROS"].any()
    assert not inside["_ZEROS"].flags.writeable


def test_a_mask_does_not_print_its_key() -> None:
    assert repr([Mask(b"sixteen secrets!", -1)]) == "[Mask(sign=-1)]"
    assert str(Mask(b"sixteen secrets!", 1)) == "Mask(sign=1)"


def test_a_mask_reaches_another_process() -> None:
    assert pickle.loads(pickle.dumps(Mask(key_of(1), -1))) == Mask(key_of(1), -1)


@pytest.mark.parametrize("key", [b"", bytes(15), bytes(17), bytes(32)])
def test_a_key_has_sixteen_bytes(key: bytes) -> None:
    with pytest.raises(ValueError, match=r"[Ii]nvalid key size"):
        keystream_words(key, 4)


@pytest.mark.parametrize("sign", [0, 2, -2])
def test_a_sign_is_one_or_minus_one(sign: int) -> None:
    with pytest.raises(ValueError, match="sign"):
        add_masks(np.zeros(4, np.uint64), [Mask(key_of(1), sign)])


@pytest.mark.parametrize("first_word", [1, -2, 2**14 + 1])
def test_a_part_begins_where_a_block_of_the_cipher_does(first_word: int) -> None:
    with pytest.raises(ValueError, match="even word"):
        keystream_words(key_of(1), 4, first_word)


def test_only_words_are_masked() -> None:
    for words in (np.zeros(4), np.zeros(4, np.int64), np.zeros((2, 2), np.uint64)):
        with pytest.raises(ValueError, match="uint64"):
            add_masks(words, [Mask(key_of(1), 1)])  # type: ignore[arg-type, unused-ignore]


def test_a_row_is_not_touched_when_one_of_its_masks_is_refused() -> None:
    row = row_of(10)
    with pytest.raises(ValueError, match="key size"):
        add_masks(row, [Mask(key_of(1), 1), Mask(b"short", 1)])
    np.testing.assert_array_equal(row, row_of(10))


def test_more_masks_than_streams_are_open_at_a_time_are_all_added() -> None:
    masks = [Mask(number.to_bytes(16, "big"), 1 if number % 3 else -1) for number in range(600)]
    together, apart = np.zeros(11, np.uint64), np.zeros(11, np.uint64)
    add_masks(together, masks)
    for mask in masks:
        add_masks(apart, [mask])
    assert np.array_equal(together, apart)

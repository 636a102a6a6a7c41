"""Hide a packed row under masks: streams that cancel in the sum, or that the server learns to take off.

A mask is the keystream of AES-128 in counter mode (NIST SP 800-38A), read as little-endian words. Added to a
row modulo 2**64 it makes that row look uniform to whoever lacks the key (Bonawitz et al., Practical secure
aggregation for privacy-preserving machine learning, 2017, section 4). The counter begins at 0 without a
nonce, hence **a key is for one row only**: two rows under one key show their difference.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from tacit.secagg.ring import Words

KEY_BYTES = 16
WORDS_PER_STEP = 2
"""Words of one block of AES: where a part of a row may begin."""

# Words masked at a time. With the keystream and the zeros it is made of, 768 KiB stay in cache; steps half as
# long are too short for threads, which then wait for the interpreter's lock.
_BLOCK = 2**15
_STREAMS = 256  # masks whose streams are open at a time: one takes a kilobyte
_CACHE_LINE = 64
_LITTLE_ENDIAN = np.dtype("<u8")


class Mask(NamedTuple):
    """One mask of a row, and whether it is added or taken off.

    Attributes:
        key: AES-128's; secret, so that the mask does not print it.
        sign: 1 or -1.
    """

    key: bytes
    sign: int

    def __repr__(self) -> str:
        return f"Mask(sign={self.sign})"


def add_masks(words: Words, masks: Sequence[Mask], first_word: int = 0) -> None:
    """Add to ``words`` the masks' streams times their signs, in place and modulo 2**64.

    Args:
        words: A packed row, or a part of one.
        first_word: Where in its row the part begins; even, for a block of AES is two words.

    >>> row = np.arange(5, dtype=np.uint64)
    >>> add_masks(row, [Mask(bytes(16), 1)])
    >>> add_masks(row[2:], [Mask(bytes(16), -1)], first_word=2)
    >>> row[2:]
    array([2, 3, 4], dtype=uint64)
    """
    if words.dtype != np.uint64 or words.ndim != 1:
        raise ValueError(f"words are a row of uint64, not {words.ndim} dimensions of {words.dtype}")
    signed = [(mask.key, _operation(mask.sign)) for mask in masks]
    buffer = _aligned(min(len(words), _BLOCK))
    try:
        for begin in range(0, len(masks), _STREAMS):
            streams = [(_stream(key, first_word), sign) for key, sign in signed[begin : begin + _STREAMS]]
            _add(words, streams, buffer)
    finally:
        buffer[:] = 0


def keystream_words(key: bytes, words: int, first_word: int = 0) -> Words:
    """Return one mask's words."""
    stream = np.zeros(words, np.uint64)
    add_masks(stream, [Mask(key, 1)], first_word)
    return stream


def _add(words: Words, streams: Sequence[tuple[CipherContext, np.ufunc]], buffer: Words) -> None:
    """Add the streams, all of one block before the next: a row is larger than the cache, they are not."""
    for begin in range(0, len(words), _BLOCK):
        block = words[begin : begin + _BLOCK]
        keystream = buffer[: len(block)]
        zeros, output = _ZEROS[: len(block)].view(np.uint8).data, keystream.view(np.uint8).data
        for stream, operation in streams:
            stream.update_into(zeros, output)
            operation(block, keystream, out=block)


def _stream(key: bytes, first_word: int) -> CipherContext:
    counter, odd = divmod(first_word, WORDS_PER_STEP)
    if odd or counter < 0:
        raise ValueError(f"a part of a row begins at an even word, not at {first_word}")
    return Cipher(algorithms.AES128(key), modes.CTR(counter.to_bytes(16, "big"))).encryptor()


def _operation(sign: int) -> np.ufunc:
    if sign not in (1, -1):
        raise ValueError(f"a mask's sign is 1 or -1, not {sign}")
    return np.add if sign == 1 else np.subtract


def _aligned(words: int) -> Words:
    """Return zeros that begin a line of the cache, which makes the loop a few per cent faster."""
    room = np.zeros(words + _CACHE_LINE // 8, _LITTLE_ENDIAN)
    begin = -room.ctypes.data % _CACHE_LINE // 8
    return room[begin : begin + words]


_ZEROS = _aligned(_BLOCK)
_ZEROS.setflags(write=False)

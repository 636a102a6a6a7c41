"""Unpredictable words from a key: AES-256 in counter mode."""

import hashlib

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.int64]
"""Uniform 64-bit words read as signed numbers, little-endian, shape (words,)."""

KEY_BYTES = 32
_ZEROS = memoryview(bytes(1 << 17))  # what is encrypted: its cipher text is the bare keystream


class Keystream:
    """The words that belong to one key, handed out in order.

    Every key is used for one stream only, so the nonce is zero. AES is a permutation: its blocks never
    repeat, as truly random ones may, and 2^28 words tell the two apart with probability below 2^-74.

    >>> words = np.empty(2, dtype=np.int64)
    >>> Keystream(bytes(32)).fill(words)
    >>> words.tobytes().hex()  # test case 14 of the specification of GCM
    'cea7403d4d606b6e074ec5d3baf39d18'
    """

    def __init__(self, key: bytes) -> None:
        # Late: only who draws noise needs it, and it takes 7 MB of every process.
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        assert len(key) == KEY_BYTES
        # GCM's cipher text is counter mode, from block 2 on (NIST SP 800-38D, section 7.1). OpenSSL runs it
        # on vectors of blocks, at twice the speed of its plain counter mode; nobody asks for the tag. 64 GiB
        # are the most that it gives for a key.
        self._encryptor = Cipher(algorithms.AES256(key), modes.GCM(bytes(12))).encryptor()

    def fill(self, words: Words) -> None:
        """Overwrite ``words`` with the next ones."""
        out = words.data.cast("B")
        for start in range(0, len(out), len(_ZEROS)):
            part = out[start : start + len(_ZEROS)]
            self._encryptor.update_into(_ZEROS[: len(part)], part)


def derive(key: bytes, *purpose: str | int) -> bytes:
    """Return the key, 32 bytes, that belongs to one purpose of a key; other purposes have others.

    >>> derive(bytes(32), "update") == derive(bytes(32), "bit")
    False
    """
    # Lengths are part of the text: ("ab", "c") and ("a", "bc") are different purposes.
    words = [f"{'s' if isinstance(word, str) else 'i'}{len(str(word))}:{word}" for word in purpose]
    return hashlib.blake2b(
        "".join(words).encode(), key=key, digest_size=KEY_BYTES, person=b"tacit.noise"
    ).digest()

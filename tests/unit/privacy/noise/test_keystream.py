"""The keystream, and where randomness may come from at all."""

import ast
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

import tacit.privacy.mechanisms
import tacit.privacy.noise
from tacit.privacy.noise.keystream import Keystream, derive

words = st.lists(st.one_of(st.integers(-(2**70), 2**70), st.text(max_size=5)), max_size=4).map(tuple)


def drawn(key: bytes, *sizes: int) -> bytes:
    stream, parts = Keystream(key), []
    for size in sizes:
        part = np.empty(size, dtype=np.int64)
        stream.fill(part)
        parts.append(part)
    return np.concatenate(parts).tobytes()


def test_it_is_the_cipher_of_a_counter_block_by_block() -> None:
    key = bytes(range(32))
    counters = b"".join(counter.to_bytes(16, "big") for counter in range(2, 20_002))
    encryptor = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()
    assert drawn(key, 40_000) == encryptor.update(counters)


def test_pieces_of_any_size_are_one_stream() -> None:
    key = bytes(32)
    assert drawn(key, 3, 1, 16_384, 5, 40_000) == drawn(key, 3 + 1 + 16_384 + 5 + 40_000)


@given(a=words, b=words)
def test_different_purposes_have_different_keys(a: tuple[str | int, ...], b: tuple[str | int, ...]) -> None:
    assert (derive(bytes(32), *a) == derive(bytes(32), *b)) == (a == b)


@pytest.mark.parametrize(
    ("a", "b"), [(("ab", "c"), ("a", "bc")), ((1, 2), (12,)), ((1,), ("1",)), (("a",), ("a", ""))]
)
def test_words_of_a_purpose_do_not_run_into_each_other(
    a: tuple[str | int, ...], b: tuple[str | int, ...]
) -> None:
    assert derive(bytes(32), *a) != derive(bytes(32), *b)


def test_the_key_of_a_purpose_needs_the_key() -> None:
    assert derive(bytes(32), "update") != derive(b"\x01" + bytes(31), "update")


@pytest.mark.parametrize("package", [tacit.privacy.noise, tacit.privacy.mechanisms], ids=lambda p: p.__name__)
def test_no_generator_of_numpy_or_of_the_standard_library_comes_near_the_noise(package: object) -> None:
    folder = Path(str(package.__file__)).parent  # type: ignore[attr-defined]
    sources = sorted(folder.glob("**/*.py"))
    assert len(sources) > 3
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            assert not (isinstance(node, ast.Attribute) and node.attr == "random"), source
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            )
            module = getattr(node, "module", None) or ""
            for name in (*names, module):
                assert "random" not in name.split("."), source
                assert name != "tacit.core.randomness", source

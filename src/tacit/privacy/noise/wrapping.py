"""Keys at rest: sealed by the server's master key, each to its place."""

import os
from typing import TYPE_CHECKING

import msgspec

from tacit.core.errors import ConfigError
from tacit.core.part import Record
from tacit.privacy.noise.keystream import derive
from tacit.privacy.noise.past import PastKeys, StepKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_NONCE_BYTES = 12


class KeyContext(Record, frozen=True):
    """Where a sealed secret belongs; anywhere else it does not open.

    Attributes:
        population: Whose data the noise protects.
        job: The job that releases.
        step: The newest step that the secret serves.
        purpose: What the secret is for.
    """

    population: str
    job: str
    step: int
    purpose: str = "keys"


def wrap(keys: PastKeys, master_key: bytes, context: KeyContext) -> bytes:
    """Seal the keys of past steps for the disk.

    Raises:
        ConfigError: The context is of another step than the newest key.
    """
    _check_step(keys, context)
    return seal(msgspec.msgpack.encode([(k.step, k.key) for k in keys.keys]), master_key, context)


def unwrap(blob: bytes, master_key: bytes, context: KeyContext) -> PastKeys:
    """Open what ``wrap`` has sealed.

    Raises:
        ConfigError: Another master key, another population, job or step, or a byte that has changed.
    """
    pairs = msgspec.msgpack.decode(unseal(blob, master_key, context), type=list[tuple[int, bytes]])
    keys = PastKeys(tuple(StepKey(step, key) for step, key in pairs))
    _check_step(keys, context)
    return keys


def seal(secret: bytes, master_key: bytes, context: KeyContext) -> bytes:
    """Encrypt a secret with AES-256-GCM, bound to its context.

    Nonces are random: after 2^32 secrets under one master key (a step each) it is time for another.
    """
    nonce = os.urandom(_NONCE_BYTES)
    return _VERSION + nonce + _cipher(master_key).encrypt(nonce, secret, _bound(context))


def unseal(blob: bytes, master_key: bytes, context: KeyContext) -> bytes:
    """Open what ``seal`` has sealed.

    Raises:
        ConfigError: It is not what was sealed with that key for that context.
    """
    from cryptography.exceptions import InvalidTag  # late, as the cipher

    nonce, sealed = blob[1 : 1 + _NONCE_BYTES], blob[1 + _NONCE_BYTES :]
    try:
        if blob[:1] != _VERSION or len(nonce) != _NONCE_BYTES:
            raise InvalidTag
        return _cipher(master_key).decrypt(nonce, sealed, _bound(context))
    except InvalidTag:
        raise _refused(context) from None


def _cipher(master_key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # late: it takes 7 MB of every process

    # A key of its own: the master key may serve other purposes, too.
    return AESGCM(derive(master_key, "wrap"))


def _bound(context: KeyContext) -> bytes:
    return _VERSION + msgspec.msgpack.encode(msgspec.structs.astuple(context))


def _check_step(keys: PastKeys, context: KeyContext) -> None:
    if keys.step != context.step:
        raise _refused(context)


def _refused(context: KeyContext) -> ConfigError:
    return ConfigError(
        "T185",
        "the sealed noise keys do not open",
        where=f"population {context.population!r}, job {context.job!r}, step {context.step}",
        fix="Restore the master key and the state that belong together; if that cannot be, "
        "the run's correlated noise cannot go on: start a new job, whose spend adds to what was spent.",
    )

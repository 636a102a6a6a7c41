"""What one round of secure aggregation costs a client and a server: messages, bytes, seconds."""

from dataclasses import dataclass, fields
from typing import Any

from tacit.secagg.messages import (
    CHUNK_BYTES,
    Advert,
    Confirmation,
    Delivery,
    Message,
    Roster,
    Shares,
    Survivors,
    SurvivorSignature,
    Unmask,
    VectorChunk,
    VectorHead,
    size_of,
)
from tacit.secagg.parameters import GroupParameters, Threat

_UP: tuple[type[Message], ...] = (Advert, Shares, VectorHead, SurvivorSignature, Unmask)
_DOWN: tuple[type[Message], ...] = (Roster, Delivery, Survivors, Confirmation)
_MALICIOUS_ONLY: tuple[type[Message], ...] = (SurvivorSignature, Confirmation)

# Rough rates of one server core for AES-128-CTR, X25519 and Ed25519; a phone takes about three times as long.
_MASKED_BYTES_PER_S = 7.5e9  # keystream and its addition
_ADDED_BYTES_PER_S = 10e9
_PACKED_WORDS_PER_S = 0.7e9
_NEIGHBOUR_S = 2e-4  # two exchanges, keys, sealing and opening of shares, dealing out two secrets
_SIGNED_NEIGHBOUR_S = 2.8e-4  # advert, certificate, session and survivors: four signatures to verify
_REBUILT_S = 4e-4  # one secret of one client, its shares combined and checked
_PAIR_S = 1e-4  # one mask of one pair with a client that vanished
_CAPSULE_S = 2e-4  # ML-KEM-768, there and back


@dataclass(frozen=True)
class Costs:
    """What one group costs in one round; bytes are exact, seconds are rough and of one core.

    Attributes:
        messages: How many messages one client sends and receives; a vector counts as one.
        bytes_up: Bytes one client sends.
        bytes_down: Bytes one client receives, without the model.
        client_s: Seconds of computing of one client.
        server_s: Seconds of computing of the server, with as many dropouts as are expected.
    """

    messages: int
    bytes_up: int
    bytes_down: int
    client_s: float
    server_s: float

    @classmethod
    def of(
        cls, parameters: GroupParameters, threat: Threat, words: int, *, post_quantum: bool = False
    ) -> "Costs":
        """Return the costs of a group.

        Args:
            parameters: Its graph.
            threat: Against whom.
            words: Length of the masked vector in 64-bit words.
            post_quantum: Whether ML-KEM joins X25519.
        """
        is_malicious = threat.mode == "malicious"
        left_out = () if is_malicious else _MALICIOUS_ONLY
        up, down = ([kind for kind in kinds if kind not in left_out] for kinds in (_UP, _DOWN))

        def size(kind: type[Message], chunk: int = CHUNK_BYTES) -> int:
            n, k = parameters.clients, parameters.neighbours
            return size_of(kind, n, k, chunk, signed=is_malicious, post_quantum=post_quantum)

        whole, rest = divmod(8 * words, CHUNK_BYTES)
        vector = whole * size(VectorChunk) + (size(VectorChunk, rest) if rest else 0)
        return cls(
            messages=len(up) + len(down),
            bytes_up=sum(map(size, up)) + vector,
            bytes_down=sum(map(size, down)),
            client_s=_client_s(parameters, words, is_malicious=is_malicious, post_quantum=post_quantum),
            server_s=_server_s(parameters, threat, words, post_quantum=post_quantum),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _client_s(parameters: GroupParameters, words: int, *, is_malicious: bool, post_quantum: bool) -> float:
    """Count a mask for each neighbour and one for itself over the packed row, and each neighbour's keys."""
    masks = parameters.neighbours + 1
    each = _NEIGHBOUR_S + is_malicious * _SIGNED_NEIGHBOUR_S + post_quantum * _CAPSULE_S
    return (
        masks * 8 * words / _MASKED_BYTES_PER_S + words / _PACKED_WORDS_PER_S + parameters.neighbours * each
    )


def _server_s(parameters: GroupParameters, threat: Threat, words: int, *, post_quantum: bool) -> float:
    """Count an addition and a mask for each survivor, and a mask for each one beside a client lost."""
    lost = parameters.clients * threat.dropout
    left = parameters.clients - lost
    pairs = lost * parameters.neighbours * left / max(parameters.clients - 1, 1)
    masking = (left + pairs) * 8 * words / _MASKED_BYTES_PER_S
    adding = left * 8 * words / _ADDED_BYTES_PER_S
    return masking + adding + parameters.clients * _REBUILT_S + pairs * (_PAIR_S + post_quantum * _CAPSULE_S)

"""Messages and tensors as bytes."""

from tacit.wire.update import HEADER_BYTES, pack_update, unpack_update

__all__ = ["HEADER_BYTES", "pack_update", "unpack_update"]

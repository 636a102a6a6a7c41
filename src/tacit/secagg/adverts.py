"""What makes an advert right; the server checks all of them, and each client those of its neighbours."""

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.identity import Enrolment, Verifier, verify
from tacit.secagg.keys import PUBLIC_BYTES
from tacit.secagg.messages import ADVERT, KEM_BYTES, Advert
from tacit.secagg.terms import NONCE_BYTES, Terms


def check_advert(
    advert: Advert,
    client: str,
    assignment: bytes,
    terms: Terms,
    pinned: Enrolment | None,
    verifier: Verifier,
) -> None:
    """Accept an advert as this client's for these terms.

    Args:
        assignment: The terms' id, which takes a while to compute.

    Raises:
        RemoteProtocolError: T557, it is not; T562, its certificate does not count.
    """
    if advert.client != client or advert.assignment != assignment:
        raise _refused("is another client's, or for other terms", client)
    wanted = (PUBLIC_BYTES, PUBLIC_BYTES, NONCE_BYTES, KEM_BYTES if terms.post_quantum else 0)
    if (len(advert.mask_key), len(advert.share_key), len(advert.nonce), len(advert.kem_key)) != wanted:
        raise _refused("has keys that are not of the kind that is wanted", client)
    if not terms.is_malicious:
        return
    certificate = advert.certificate
    if pinned is None or certificate is None:
        raise _refused("has no certificate", client)
    pinned.check(certificate, client, verifier=verifier)
    if not verify(certificate.key, advert.signature, ADVERT, advert.signed_part, verifier=verifier):
        raise _refused("is not signed by its client", client)


def _refused(what: str, client: str) -> RemoteProtocolError:
    return RemoteProtocolError("T557", f"an advert {what}", where=f"client {client!r}")

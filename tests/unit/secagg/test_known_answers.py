"""Published vectors, through the very classes and functions that secure aggregation uses."""

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tacit.secagg.masks import keystream_words

h = bytes.fromhex


@pytest.mark.parametrize(
    ("scalar", "point", "product"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_x25519_multiplies_as_rfc_7748_says(scalar: str, point: str, product: str) -> None:
    private = X25519PrivateKey.from_private_bytes(h(scalar))
    assert private.exchange(X25519PublicKey.from_public_bytes(h(point))) == h(product)


def test_x25519_agrees_as_in_rfc_7748() -> None:
    alice, bob = (
        X25519PrivateKey.from_private_bytes(h(private))
        for private in (
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        )
    )
    publics = [
        h("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"),
        h("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"),
    ]
    assert [private.public_key().public_bytes_raw() for private in (alice, bob)] == publics
    shared = h("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert alice.exchange(bob.public_key()) == bob.exchange(alice.public_key()) == shared


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)])
def test_x25519_refuses_points_that_force_the_secret(point: bytes) -> None:
    # RFC 7748, 6.1: the all-zero outcome of points of small order is to be refused.
    with pytest.raises(ValueError, match=r"[Ee]rror computing shared key"):
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(point))


@pytest.mark.parametrize(
    ("seed", "public", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            (
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
                "d25bf5f0595bbe24655141438e7a100b"
            ),
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            (
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
                "387b2eaeb4302aeeb00d291612bb0c00"
            ),
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            (
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
                "4a7c15e9716ed28dc027beceea1ec40a"
            ),
        ),
    ],
)
def test_ed25519_signs_as_rfc_8032_says(seed: str, public: str, message: str, signature: str) -> None:
    private = Ed25519PrivateKey.from_private_bytes(h(seed))
    assert private.public_key().public_bytes_raw() == h(public)
    assert private.sign(h(message)) == h(signature)
    verifier = Ed25519PublicKey.from_public_bytes(h(public))
    verifier.verify(h(signature), h(message))
    with pytest.raises(InvalidSignature):
        verifier.verify(h(signature), h(message) + b"\0")


@pytest.mark.parametrize(
    ("secret", "salt", "info", "length", "key"),
    [
        (
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)).hex(),
            bytes(range(0x60, 0xB0)).hex(),
            bytes(range(0xB0, 0x100)).hex(),
            82,
            (
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
                "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
            ),
        ),
        (
            "0b" * 22,
            "",
            "",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf_derives_as_rfc_5869_says(secret: str, salt: str, info: str, length: int, key: str) -> None:
    assert HKDF(SHA256(), length, h(salt), h(info)).derive(h(secret)) == h(key)


def test_our_keystream_is_that_of_nist_sp_800_38a() -> None:
    # F.5.1, CTR-AES128.Encrypt: their counter begins as many blocks, of two words each, after ours.
    counter = int("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", 16)
    plain = h(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    cipher = h(
        "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
        "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
    )
    stream = keystream_words(h("2b7e151628aed2a6abf7158809cf4f3c"), words=8, first_word=2 * counter)
    assert (np.frombuffer(plain, "<u8") ^ stream).astype("<u8").tobytes() == cipher


def test_our_keystream_begins_at_a_counter_of_zero() -> None:
    # NIST's AES known answer (FIPS 197 key schedule, zero key): the encryption of the zero block ...
    assert keystream_words(bytes(16), 2).astype("<u8").tobytes() == h("66e94bd4ef8a2c3b884cfa59ca342b2e")
    # ... and of the block 1, as in the GCM specification's first test case, whose counter is 1.
    assert keystream_words(bytes(16), 2, first_word=2).astype("<u8").tobytes() == h(
        "58e2fccefa7e3061367f1d57a4e7455a"
    )


GCM_KEY = "feffe9928665731c6d6a8f9467308308"


@pytest.mark.parametrize(
    ("key", "nonce", "plain", "data", "sealed"),
    [
        # McGrew and Viega, The Galois/counter mode of operation, test cases 13, 14 and 16.
        ("00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
        (
            "00" * 32,
            "00" * 12,
            "00" * 16,
            "",
            "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
        ),
        (
            2 * GCM_KEY,
            "cafebabefacedbaddecaf888",
            (
                "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
            ),
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            (
                "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
                "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"
            ),
        ),
        # NIST CAVP, gcmEncryptExtIV256, without plaintext: the tag alone (GMAC).
        (
            "78dc4e0aaf52d935c3c01eea57428f00ca1fd475f5da86a49c8dd73d68c8e223",
            "d79cf22d504cc793c3fb6c8a",
            "",
            "b96baa8c1c75a671bfb2d08d06be5f36",
            "3e5d486aa2e30b22e040b85723a06e76",
        ),
    ],
)
def test_gcm_seals_as_nist_says(key: str, nonce: str, plain: str, data: str, sealed: str) -> None:
    cipher = AESGCM(h(key))
    assert cipher.encrypt(h(nonce), h(plain), h(data)) == h(sealed)
    assert cipher.decrypt(h(nonce), h(sealed), h(data)) == h(plain)
    with pytest.raises(InvalidTag):
        cipher.decrypt(h(nonce), h(sealed), h(data) + b"\0")

"""Who vouches for a release: an Ed25519 signature (RFC 8032) of its manifest, which names the hash of every other file.

Beside the manifest lies ``manifest.json.sig``, the 64 bytes of the signature and nothing else; keys are PEM files
(PKCS #8 and SubjectPublicKeyInfo). OpenSSL makes and checks the same:

    openssl pkeyutl -verify -pubin -inkey alice.pub -rawin -in manifest.json -sigfile manifest.json.sig
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.files import write_bytes
from tasks.schema import UnusableInput
from tasks.storage import Location, read_bytes

if TYPE_CHECKING:  # verifying a release that nobody asks the signer of does without
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

NAME = "manifest.json.sig"
PASSPHRASE = "SCANMILL_KEY_PASSPHRASE"
"""Environment variable: what a private key is encrypted by."""
TRUSTED = "SCANMILL_TRUSTED_KEYS"
"""Environment variable: public keys, as a PATH is written; training takes only releases that one of them has signed."""
PRIVATE_MODE, PUBLIC_SUFFIX = 0o600, ".pub"
SHOWN_DIGITS = 16


@dataclass(frozen=True)
class PublicKey:
    """Whose signature is asked for."""

    path: str
    key: Ed25519PublicKey

    @property
    def fingerprint(self) -> str:
        """First hex digits of the SHA-256 of the key's 32 bytes."""
        return fingerprint(self.key)


def fingerprint(key: Ed25519PublicKey) -> str:
    """First hex digits of the SHA-256 of a key's 32 bytes: what people compare by telephone."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:SHOWN_DIGITS]


def make_key(path: Path) -> str:
    """Write a new private key, for its owner's eyes alone, and ``<path>.pub`` beside it; returns the fingerprint.

    It is encrypted where :data:`PASSPHRASE` is set. Raises :class:`UnusableInput` where there is a file already.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    secret = os.environ.get(PASSPHRASE, "").encode()
    encryption = BestAvailableEncryption(secret) if secret else NoEncryption()
    public = Path(f"{path}{PUBLIC_SUFFIX}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    except FileExistsError as error:
        raise UnusableInput(f"{path} is there already; a key is never replaced: choose another name") from error
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return fingerprint(key.public_key())


def private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key. Raises :class:`UnusableInput` for what is none, and for a passphrase that does not fit."""
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    secret = os.environ.get(PASSPHRASE, "").encode() or None
    try:
        key = load_pem_private_key(path.read_bytes(), secret)
    except OSError as error:
        raise UnusableInput(f"{path}: {error.strerror}; make a key with: scanmill sign --new-key {path}") from error
    except TypeError as error:  # encrypted and no passphrase, or the other way round
        raise UnusableInput(f"{path}: {str(error).rstrip('.')}: the passphrase is read from {PASSPHRASE}") from error
    except (ValueError, UnsupportedAlgorithm, InternalError) as error:
        raise UnusableInput(f"{path} is no private key in PEM, or {PASSPHRASE} does not open it") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UnusableInput(f"{path} is no Ed25519 key; make one with: scanmill sign --new-key FILE")
    return key


def public_key(path: str) -> PublicKey:
    """Read a public key. Raises :class:`UnusableInput` for what is none."""
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(Path(path).read_bytes())
    except OSError as error:
        raise UnusableInput(f"the public key {path}: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm, InternalError) as error:
        raise UnusableInput(f"{path} is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UnusableInput(f"{path} is no Ed25519 key")
    return PublicKey(path, key)


def trusted_keys() -> tuple[PublicKey, ...]:
    """Those of :data:`TRUSTED`; none where anybody's releases are taken."""
    return tuple(public_key(path) for path in os.environ.get(TRUSTED, "").split(os.pathsep) if path)


def sign(folder: Location, key: Ed25519PrivateKey) -> None:
    """Put a signature beside the manifest of a release, in place of another's if there is one."""
    write_bytes(folder / NAME, key.sign(read_bytes(folder / "manifest.json")))


def problem(folder: Location, keys: Sequence[PublicKey]) -> str:
    """Why a release is not by the holder of any of these keys; empty where it is."""
    whose = " or ".join(f"{key.path} ({key.fingerprint})" for key in keys)
    try:
        signature = read_bytes(folder / NAME)
    except FileNotFoundError:
        return f"{NAME}: is missing: nobody has signed the release; asked for is {whose}"
    except OSError as error:
        return f"{NAME}: cannot be read ({error.strerror})"
    content = read_bytes(folder / "manifest.json")
    if any(_has_signed(key.key, signature, content) for key in keys):
        return ""
    return f"{NAME}: is not by the holder of {whose}, or not of this manifest"


def _has_signed(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True

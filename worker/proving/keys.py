"""The key that checkpoints are signed with: Ed25519 (RFC 8032), in PEM as OpenSSL writes it."""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)


class KeyUnusable(ValueError):
    """A file holds no Ed25519 key; the message says which."""


def signing_key(path: Path) -> Ed25519PrivateKey:
    """Read the private key, or make one where there is no file yet; its public half is then beside it, as `….pub`.

    Raises KeyUnusable, and OSError where a file cannot be read or written.
    """
    if not path.exists():
        if public_path(path).exists():
            raise KeyUnusable(f"{path} is gone, and {public_path(path)} is there: what was signed needs that very key")
        path.parent.mkdir(parents=True, exist_ok=True)
        new = Ed25519PrivateKey.generate()
        _write(path, new.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(f"{path} holds no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(f"{path} holds another kind of private key than Ed25519")
    if not public_path(path).exists():
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        _write(public_path(path), public)
    return key


def verifying_key(path: Path) -> Ed25519PublicKey:
    """Read a public key. Raises KeyUnusable, and OSError where the file cannot be read."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(f"{path} holds no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable(f"{path} holds another kind of public key than Ed25519")
    return key


def public_path(path: Path) -> Path:
    """Say where the public half of a private key is kept."""
    return path.with_name(path.name + ".pub")


def _write(path: Path, pem: bytes) -> None:
    """Write a file whole or not at all; another process may be doing the same, and the first one stays."""
    with NamedTemporaryFile(dir=path.parent) as draft:  # for its owner alone
        draft.write(pem)
        draft.flush()
        os.fsync(draft.fileno())
        with suppress(FileExistsError):
            os.link(draft.name, path)

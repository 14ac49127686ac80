"""The installation's key, with which it signs records and the audit log (Ed25519, RFC 8032).

It is made once, in a file of the state folder that only its owner may read, and is part of backups. Who has it can make
up records, so nothing but Muster may read it: sandboxes hide the state folder.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from core import durable_files
from core.errors import MusterError

_PREFIX: Final = "ed25519:"
_BYTES: Final = 32


class SigningKeyUnusable(MusterError):
    """The signing key of this installation cannot be used."""

    code = "signing_key.unusable"


class SigningKey:
    """A private key and its public half."""

    def __init__(self, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # 30 ms

        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: Final = _PREFIX + base64.b64encode(self._key.public_key().public_bytes_raw()).decode()
        """The public half, as text."""

    @classmethod
    def at(cls, file: Path) -> SigningKey:
        """Read the key from its file; make both if there is no file.

        Raises:
            SigningKeyUnusable: the file cannot be read or made, other users can read it, or it holds something else.
        """
        try:
            if not file.exists():
                _make(file)
        except OSError as error:
            raise SigningKeyUnusable(
                f"The signing key {file} cannot be read or made: {error.strerror}. Check the state folder."
            ) from error
        return cls.read(file)

    @classmethod
    def read(cls, file: Path) -> SigningKey:
        """Read the key from its file.

        Raises:
            SigningKeyUnusable: there is no such file, other users can read it, or it holds something else.
        """
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
            content = file.read_bytes()
        except OSError as error:
            raise SigningKeyUnusable(f"The signing key {file} cannot be read: {error.strerror}.") from error
        if mode & 0o077:
            raise SigningKeyUnusable(
                f"The signing key {file} is open to others (mode {mode:04o}). If nobody else has read it, "
                f"close it with `chmod 600 {file}`."
            )
        try:
            seed = base64.b64decode(content.strip(), validate=True)
        except (binascii.Error, ValueError):
            seed = b""
        if len(seed) != _BYTES:
            raise SigningKeyUnusable(
                f"{file} holds no signing key. Restore it from a backup. If you move it away, a new key is made, "
                "and what the old one has signed is reported as signed by an unknown key."
            )
        return cls(seed)

    def sign(self, content: bytes) -> str:
        """Return the signature of some bytes, as text."""
        return base64.b64encode(self._key.sign(content)).decode()

    def derived(self, purpose: str) -> bytes:
        """Return a secret for another purpose, from which the key cannot be found out."""
        return hmac.new(self._seed, f"muster {purpose}".encode(), hashlib.sha256).digest()


def _make(file: Path) -> None:
    """Write a new key, unless another process was faster; no process ever sees a part of it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}.part")
    durable_files.write(draft, base64.b64encode(secrets.token_bytes(_BYTES)).decode() + "\n")
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()
    durable_files.sync_folder(file.parent)


def is_public_key(text: str) -> bool:
    """Return whether a text is a public key as `SigningKey.public` writes it."""
    return _decoded(text.removeprefix(_PREFIX), _BYTES) is not None and text.startswith(_PREFIX)


def is_signed(content: bytes, signature: str, public: str) -> bool:
    """Return whether the owner of a public key signed some bytes; False also if key or signature are none."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = _decoded(public.removeprefix(_PREFIX), _BYTES) if public.startswith(_PREFIX) else None
    signed = _decoded(signature, 2 * _BYTES)
    if key is None or signed is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signed, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def _decoded(text: str, size: int) -> bytes | None:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    # One way to write it.
    return content if len(content) == size and base64.b64encode(content).decode() == text else None

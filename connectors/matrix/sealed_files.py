"""Files that are encrypted on their way (Client-Server API, "Sending encrypted attachments")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from nio import EncryptionError  # type: ignore[import-untyped]
from nio.crypto import decrypt_attachment, encrypt_attachment  # type: ignore[import-untyped]

Json: TypeAlias = dict[str, Any]

_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
_IV = re.compile(r"[A-Za-z0-9+/]{22}")
_HASH = re.compile(r"[A-Za-z0-9+/]{43}")


class Tampered(Exception):
    """The content is not what its sender encrypted."""


@dataclass(frozen=True, slots=True)
class FileSecrets:
    """What opens one file, in unpadded base64."""

    key: str
    iv: str
    sha256: str
    """Of the encrypted content."""

    @classmethod
    def from_json(cls, file: Json) -> FileSecrets | None:
        """Of an event's ``file``; None when it is none that can be opened."""
        key, hashes = file.get("key"), file.get("hashes")
        found = (
            key.get("k") if isinstance(key, dict) else None,
            file.get("iv"),
            hashes.get("sha256") if isinstance(hashes, dict) else None,
        )
        given = [each.rstrip("=") for each in found if isinstance(each, str)]
        return cls(*given) if len(given) == 3 and cls(*given)._is_sound() else None

    def as_json(self, address: str) -> Json:
        """As an event's ``file``."""
        key = {"kty": "oct", "alg": "A256CTR", "ext": True, "k": self.key, "key_ops": ["encrypt", "decrypt"]}
        return {"url": address, "v": "v2", "key": key, "iv": self.iv, "hashes": {"sha256": self.sha256}}

    def beside(self, address: str) -> str:
        """One reference of an address and these; `of` finds them again."""
        return f"{address}#{self.key}.{self.iv}.{self.sha256}"

    @classmethod
    def of(cls, reference: str) -> FileSecrets | None:
        """Those in a reference; None: it is to a file in the clear."""
        parts = reference.partition("#")[2].split(".")
        return cls(*parts) if len(parts) == 3 and cls(*parts)._is_sound() else None

    def _is_sound(self) -> bool:
        return bool(_KEY.fullmatch(self.key) and _IV.fullmatch(self.iv) and _HASH.fullmatch(self.sha256))


def seal_file(content: bytes) -> tuple[bytes, FileSecrets]:
    """A file encrypted with a key of its own."""
    ciphertext, found = encrypt_attachment(content)
    secrets = FileSecrets.from_json(found)
    assert secrets is not None
    return ciphertext, secrets


def open_file(ciphertext: bytes, secrets: FileSecrets) -> bytes:
    """The content of an encrypted file.

    Raises:
        Tampered: it is not what was encrypted.
    """
    try:
        content: bytes = decrypt_attachment(ciphertext, secrets.key, secrets.sha256, secrets.iv)
    except (EncryptionError, ValueError) as error:
        raise Tampered(str(error)) from error
    return content

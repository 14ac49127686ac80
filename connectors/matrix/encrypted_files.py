"""Files that are encrypted on their way (Client-Server API, "Sending encrypted attachments")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from nio import EncryptionError  # type: ignore[import-untyped]
from nio.crypto import decrypt_attachment, encrypt_attachment  # type: ignore[import-untyped]

Json: TypeAlias = dict[str, Any]

_ADDRESS = re.compile(r"mxc://[^/\s#]{1,255}/[A-Za-z0-9_-]{1,255}")
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
        """Of an event's ``file``; None when it is none that can be opened, for which `objection` gives the reason."""
        if objection(file) is not None:
            return None
        return cls(_unpadded(file["key"]["k"]), _unpadded(file["iv"]), _unpadded(file["hashes"]["sha256"]))

    def as_json(self, address: str) -> Json:
        """As an event's ``file``."""
        key = {"kty": "oct", "alg": "A256CTR", "ext": True, "k": self.key, "key_ops": ["encrypt", "decrypt"]}
        return {"url": address, "v": "v2", "key": key, "iv": self.iv, "hashes": {"sha256": self.sha256}}

    def beside(self, address: str) -> str:
        """Return one reference of an address and these; `of` finds them again."""
        return f"{address}#{self.key}.{self.iv}.{self.sha256}"

    @classmethod
    def of(cls, reference: str) -> FileSecrets | None:
        """Return those in a reference; None: it is to a file in the clear."""
        parts = reference.partition("#")[2].split(".")
        return cls(*parts) if len(parts) == 3 and cls(*parts)._is_sound() else None

    def _is_sound(self) -> bool:
        return bool(_KEY.fullmatch(self.key) and _IV.fullmatch(self.iv) and _HASH.fullmatch(self.sha256))


def objection(file: object) -> str | None:
    """Return why an event's ``file`` is not what the specification has there ("EncryptedFile"); None when it is."""
    if not isinstance(file, dict):
        return "its file is not described"
    if not _ADDRESS.fullmatch(file["url"] if isinstance(file.get("url"), str) else ""):
        return "its file has no address at a homeserver"
    if file.get("v") != "v2":
        return "the version of its file's encryption is not v2"
    key = file["key"] if isinstance(file.get("key"), dict) else {}
    if (key.get("kty"), key.get("alg"), key.get("ext")) != ("oct", "A256CTR", True):
        return "its file's key is none for AES in counter mode (kty oct, alg A256CTR, ext true)"
    uses = key.get("key_ops")
    if not isinstance(uses, list) or "encrypt" not in uses or "decrypt" not in uses:
        return "its file's key is not one to encrypt and decrypt with (key_ops)"
    if not _KEY.fullmatch(_unpadded(key.get("k"))):
        return "its file's key has not 256 bits"
    if not _IV.fullmatch(_unpadded(file.get("iv"))):
        return "its file's counter has not 128 bits"
    hashes = file["hashes"] if isinstance(file.get("hashes"), dict) else {}
    if not _HASH.fullmatch(_unpadded(hashes.get("sha256"))):
        return "its file comes without the SHA-256 of its content"
    return None


def _unpadded(value: object) -> str:
    return value.rstrip("=") if isinstance(value, str) else ""


def seal_file(content: bytes) -> tuple[bytes, FileSecrets]:
    """Return a file encrypted with a key of its own."""
    ciphertext, found = encrypt_attachment(content)
    key, iv, digest = found["key"]["k"], found["iv"], found["hashes"]["sha256"]
    return ciphertext, FileSecrets(_unpadded(key), _unpadded(iv), _unpadded(digest))


def open_file(ciphertext: bytes, secrets: FileSecrets) -> bytes:
    """Return the content of an encrypted file.

    Raises:
        Tampered: it is not what was encrypted.
    """
    try:
        content: bytes = decrypt_attachment(ciphertext, secrets.key, secrets.sha256, secrets.iv)
    except (EncryptionError, ValueError) as error:
        raise Tampered(str(error)) from error
    return content

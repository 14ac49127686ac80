"""Static files: each under an address with the hash of its content, so that browsers can keep it for ever."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".png": "image/png",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    compressed: bytes
    content_type: str


class Assets:
    """All static files, read once. One hash is for all of them, because modules import each other by name."""

    def __init__(self) -> None:
        found: dict[str, bytes] = {}
        for each in files("bot.interfaces.web").joinpath("static").iterdir():
            if re.search(r"\.\w+$", each.name) and f".{each.name.rpartition('.')[2]}" in _TYPES:
                found[each.name] = each.read_bytes()
        digest = hashlib.sha256(b"\0".join(name.encode() + found[name] for name in sorted(found)))
        self.version: Final = digest.hexdigest()[:12]
        self._assets = {
            name: Asset(content, gzip.compress(content, 9, mtime=0), _TYPES[f".{name.rpartition('.')[2]}"])
            for name, content in found.items()
        }

    def address(self, name: str) -> str:
        """Return the address of a file."""
        if name not in self._assets:
            raise KeyError(name)
        return f"/static/{self.version}/{name}"

    def named(self, name: str) -> Asset:
        """Return a file of any version."""
        return self._assets[name]

    def get(self, version: str, name: str) -> Asset | None:
        """Return a file, or None if there is none of this name and version."""
        return self._assets.get(name) if version == self.version else None

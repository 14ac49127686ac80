"""How much is taken over from an agent's clone at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: The largest pack of commits that is taken over, in bytes.
LARGEST_PACK: Final = 2 * 1024**3


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchBounds:
    """Bounds of one fetch."""

    pack_bytes: int = LARGEST_PACK
    """Bytes of a file that git writes. With `streamed_bytes`, this bounds all new objects together."""
    memory_bytes: int | None = None
    """Bytes of address space for each process of git."""
    streamed_bytes: int | None = None
    """A longer file is never in memory as a whole. All new objects become one pack then."""

    def settings(self) -> tuple[str, ...]:
        """Return the options of git that go with these bounds."""
        if self.streamed_bytes is None:
            return ()
        values = (
            f"core.bigFileThreshold={self.streamed_bytes}",
            "core.packedGitLimit=256m",
            "core.packedGitWindowSize=32m",
            "fetch.unpackLimit=1",
            "pack.threads=1",
        )
        return tuple(word for value in values for word in ("-c", value))

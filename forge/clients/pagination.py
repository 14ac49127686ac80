"""Read a list of a forge page by page, to its end and within bounds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from forge.clients.http_core import ForgeHttp, ForgeResponse, ResponseTooLarge
from forge.model.errors import ForgeError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ForgeList(Generic[T]):
    """A list at a forge, and how its pages are read.

    Addresses of next pages are not followed: pages are counted here. An entry that moves to the next page while Muster
    reads is not read twice.
    """

    path: str
    """As `path_of` makes it."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Without page and size."""
    read: Callable[[ForgeResponse], Sequence[T]]
    """Takes the entries out of a response."""
    key: Callable[[T], Hashable]
    """Tells entries apart."""
    keep: Callable[[T], bool] = lambda _entry: True
    """Whether an entry is wanted. The others cost no memory."""
    size_name: str
    """The parameter for the entries of a page."""
    size: int
    """How many to ask for."""
    needs: str
    """The permission that the token needs, for the message of a refusal."""

    async def read_all(self, http: ForgeHttp) -> tuple[T, ...]:
        """Return the wanted entries, each once.

        Raises:
            ForgeAway: the forge does not respond, or cannot now.
            ForgeRefused: it says no.
            ForgeError: the list is longer than the bounds, or the forge repeats a page.
        """
        wanted: list[T] = []
        known: set[Hashable] = set()
        kept_bytes, seen = 0, 0
        for page in range(1, http.limits.pages + 1):
            try:
                response = await http.get(self.path, self._query(page, self.size), needs=self.needs)
                headers, entries, size = response.headers, list(self.read(response)), len(response.body)
                seen, is_empty = seen + len(entries), not entries
            except ResponseTooLarge as error:
                headers, (entries, size) = error.headers, await self._one_by_one(http, page)
                seen, is_empty = page * self.size, False
            new = [entry for entry in entries if self.key(entry) not in known]
            known.update(map(self.key, new))
            kept = [entry for entry in new if self.keep(entry)]
            wanted += kept
            kept_bytes += size * len(kept) // max(1, len(entries))
            if is_empty or not _has_more(headers, seen):
                return tuple(wanted)
            if entries and not new:
                raise ForgeError(
                    f"The forge {http.address.host} repeats a page of GET {self.path} and says that there are more. "
                    "Nothing of the list was used. Look at the forge's log, or at the proxy in front of it."
                )
            if kept_bytes > http.limits.list_bytes:
                break
        raise ForgeError(
            f"The list that the forge {http.address.host} gives to GET {self.path} is too long: Muster reads "
            f"{http.limits.pages:,} pages and keeps {http.limits.list_bytes:,} bytes of it. Nothing of it was used."
        )

    async def _one_by_one(self, http: ForgeHttp, page: int) -> tuple[list[T], int]:
        """Return the entries of a page that is too large, and their bytes; without those that are too large alone.

        Somebody who writes very long issues would keep Muster from reading the others.
        """
        found: list[T] = []
        size = 0
        for place in range((page - 1) * self.size + 1, page * self.size + 1):
            try:
                response = await http.get(self.path, self._query(place, 1), needs=self.needs)
            except ResponseTooLarge:
                http.tell(f"Entry {place} of GET {self.path} is too large, and was left out.")
                continue
            entries = self.read(response)
            if not entries:
                break
            found += entries
            size += len(response.body)
        return found, size

    def _query(self, page: int, size: int) -> dict[str, str]:
        return {**self.query, self.size_name: str(size), "page": str(page)}


def _has_more(headers: Mapping[str, str], seen: int) -> bool:
    """Return whether there is another page. If the forge does not say, there may be one until a page is empty."""
    if "Link" in headers:
        return 'rel="next"' in headers["Link"]
    total = headers.get("X-Total-Count", "")
    return not (total.isascii() and total.isdigit()) or seen < int(total[:18])

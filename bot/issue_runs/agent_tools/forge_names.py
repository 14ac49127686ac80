"""Hide from agents where the forge is: its addresses in other people's words become ``#17``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

from forge.model.references import RepositoryName

PAGE = "(a page of the forge)"
_TAIL = r"[^\s<>\"'`\\()\[\]{}|]*"
_ITEM = re.compile(r"/(?:issues|pulls?)/(\d{1,18})(?!\d)")


@dataclass(frozen=True)
class ForgeNames:
    """The names of one repository at its forge."""

    addresses: tuple[str, ...]
    """Of the forge, such as ``https://git.example.org/gitea``; hosts alone, too."""
    repository: RepositoryName

    @classmethod
    def of(cls, addresses: Iterable[str], repository: RepositoryName) -> ForgeNames:
        """Return the names for configured addresses, also those of the interface for programs."""
        return cls(tuple(dict.fromkeys(each for each in addresses if each)), repository)

    def hidden(self, text: str, *, is_code: bool = False) -> str:
        """Return a text without the names.

        Args:
            text: other people's words.
            is_code: it is a diff: only addresses of the repository itself are replaced, so that code stays as it is.
        """
        text = self._address.sub(lambda found: self._shown(found, is_code=is_code), text)
        if is_code:
            return text
        text = self._reference.sub(r"#\1", text)
        text = self._name.sub("this repository", text)
        return self._host.sub("the forge", text)

    def _shown(self, found: re.Match[str], *, is_code: bool) -> str:
        path = found["path"]
        # What ends a sentence is no part of the address.
        bare = path.rstrip(".,:;!?*_~")
        rest = path[len(bare) :]
        own = re.search(rf"/{re.escape(str(self.repository))}(?=[/.?#]|\Z)", bare, re.IGNORECASE)
        if own is None:
            return found[0] if is_code else PAGE + rest
        item = _ITEM.match(bare[own.end() :])
        return (PAGE if item is None else f"#{item[1]}") + rest

    @cached_property
    def _hosts(self) -> str:
        hosts = set[str]()
        for address in self.addresses:
            parts = urlsplit(address if "//" in address else f"//{address}")
            hosts |= {each for each in (parts.netloc.lower(), (parts.hostname or "").lower()) if each}
        hosts |= {each.removeprefix("api.") for each in hosts}
        return "|".join(re.escape(each) for each in sorted(hosts, key=lambda each: (-len(each), each))) or r"(?!)"

    @cached_property
    def _address(self) -> re.Pattern[str]:
        scheme = r"(?:[a-z][a-z+.-]{0,20}:)?//"
        return re.compile(
            rf"{scheme}(?:[^\s/@<>]{{1,200}}@)?(?:www\.)?(?:{self._hosts})(?::\d{{1,5}})?(?![\w-]|\.\w)(?P<path>{_TAIL})",
            re.IGNORECASE,
        )

    @cached_property
    def _host(self) -> re.Pattern[str]:
        return re.compile(rf"(?<![\w.-])(?:www\.)?(?:{self._hosts})(?![\w-]|\.\w)", re.IGNORECASE)

    @cached_property
    def _reference(self) -> re.Pattern[str]:
        return re.compile(rf"(?<![\w./-]){re.escape(str(self.repository))}[#!](\d{{1,18}})", re.IGNORECASE)

    @cached_property
    def _name(self) -> re.Pattern[str]:
        return re.compile(rf"(?<![\w-]){re.escape(str(self.repository))}(?:\.git)?(?![\w-])", re.IGNORECASE)

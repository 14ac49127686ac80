"""What a runtime prints that is no protocol: counted, sampled, and told now and then."""

from __future__ import annotations

import asyncio
from typing import Final

from fleet.host.acp.update_parser import clean, quoted
from fleet.host.journal_writer import JournalWriter
from fleet.journal.events import Noise

_FIRST_S: Final = 0.5
_EVERY_S: Final = 300.0


class NoiseTally:
    def __init__(self, journal: JournalWriter) -> None:
        self._journal = journal
        self._untold = 0
        self._total = 0
        self._sample = ""
        self._told = False
        self._closed = False

    def heard(self, sample: str) -> None:
        """Count a line."""
        self._untold += 1
        self._total += 1
        if self._untold == 1:
            self._sample = clean(sample)
            asyncio.get_running_loop().call_later(_EVERY_S if self._told else _FIRST_S, self.tell)

    def tell(self) -> None:
        """Put into the journal what was not told yet."""
        if self._untold and not self._closed:
            self._told = True
            self._journal.record(Noise(lines=self._untold, sample=self._sample))
            self._untold = 0

    def close(self) -> None:
        """Tell nothing more."""
        self._closed = True

    @property
    def sentence(self) -> str | None:
        """All of it in a sentence; None when there was nothing."""
        if not self._total:
            return None
        return f"It printed {self._total} lines that are not part of the protocol, such as {quoted(self._sample, 100)}."

"""Text that grows piece by piece, without secrets, for readers that only append: a terminal, a stream of events.

The end of the text is held back as long as it could be part of a secret (`core.redaction`), so a runtime cannot split a
secret into pieces that get through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from core.redaction import SecretMasker

#: A longer text is cut at its beginning if no secret is near. The last `_CONTEXT` characters that were shown are kept,
#: because the text before a secret identifies it.
_PIECE: Final = 1_000
_CONTEXT: Final = 500
#: Text longer than this is cut in any case, so that text of nothing but secrets does not get slower and slower.
_LONGEST: Final = 32_768


@dataclass(slots=True)
class GrowingText:
    """One text that grows. The pieces that it returns, in order, are the masked text."""

    redact: SecretMasker
    spelled: Callable[[str], str] = str
    """Spells the masked text for its readers."""
    _text: str = ""
    _shown: str = ""
    """The masked part of `_text` that readers have."""
    _skipped: bool = False
    """Whether `_shown` is out of date, because pieces came that no one reads."""

    def grow(self, piece: str) -> str:
        """Add a piece, and return what readers may have now. If a secret turns out to begin in what they have already,
        the text goes on masked from there, on a new line."""
        self._catch_up()
        self._text += piece
        safe = self.redact.shown_of_growing(self._text)
        masked = self.redact(self._text[:safe])
        added = self._added(masked)
        if len(self._text) - safe > _LONGEST:
            added += self._added(self.redact(self._text))
            self._keep(len(self._text), len(self._text))
        elif len(self._text) > _PIECE:
            self._cut(safe, masked)
        return added

    def rest(self) -> str:
        """Return what is held back. The text may still grow, and a secret that began here is still recognized."""
        self._catch_up()
        return self._added(self.redact(self._text))

    def skip(self, piece: str) -> None:
        """Add a piece that no one reads now. The cost does not depend on its secrets."""
        self._text = (self._text + piece)[-_LONGEST:]
        self._skipped = True

    def _catch_up(self) -> None:
        if self._skipped:
            self._skipped = False
            self._shown = self.spelled(self.redact.of_growing(self._text))

    def _added(self, masked: str) -> str:
        """Return the part of the masked text that readers do not have yet."""
        whole = self.spelled(masked)
        if self._shown.startswith(whole):
            return ""
        before, self._shown = self._shown, whole
        if whole.startswith(before):
            return whole[len(before) :]
        same = next((i for i, (a, b) in enumerate(zip(whole, before, strict=False)) if a != b), len(before))
        return "\n" + whole[same:]

    def _cut(self, safe: int, masked: str) -> None:
        """Forget the beginning, unless a secret is near: half a secret would not be recognized."""
        begin = max(0, safe - _CONTEXT)
        end = self._text[begin:safe]
        clear = self._shown == self.spelled(masked) and masked.endswith(end) and self.redact(end) == end
        if clear or safe > _LONGEST:
            self._keep(begin, safe)

    def _keep(self, begin: int, safe: int) -> None:
        begin = min(begin, max(0, safe - _CONTEXT))
        self._shown = self.spelled(self.redact(self._text[begin:safe]))
        self._text = self._text[begin:]

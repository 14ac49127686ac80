"""A whole post: an agent's words, the record of where they came from, and the marker."""

from __future__ import annotations

from typing import Final

from forge.cleaning.disarming import visible
from forge.cleaning.markdown import clean_markdown
from forge.provenance.markers import LONGEST_MARKER, mark
from forge.provenance.record import ProvenanceRecord
from forge.provenance.rendering import render

#: The most characters of a comment or description on GitHub. Gitea takes more.
LONGEST_POST: Final = 65_536


def compose(words: str, record: ProvenanceRecord, *, key: str, secret: bytes, ours: str = "") -> str:
    """Return the text of a comment or pull request. No setting leaves the record out.

    Args:
        words: what the agent wrote; untrusted.
        record: where it came from.
        key: names the order (`forge.provenance.markers`).
        secret: the installation's key for markers.
        ours: what Muster itself says after these words, such as which issue is closed.
    """
    folded = f"{ours}\n\n{render(record)}" if ours else render(record)
    room = LONGEST_POST - len(folded) - LONGEST_MARKER - 2
    return mark(f"{_fitted(words, room)}\n\n{folded}".lstrip("\n"), key, secret)


def _fitted(words: str, room: int) -> str:
    words = visible(words)
    if len(words) <= room and len(cleaned := clean_markdown(words)) <= room:
        return cleaned
    kept = room
    while True:
        left_out = len(words) - min(kept, len(words))
        note = f"\n\nMuster shortened this text: {left_out} of {len(words)} characters are left out."
        # Cleaning adds characters, and closes a block of code that the cut left open.
        cleaned = clean_markdown(words[:kept])
        if len(cleaned) + len(note) <= room:
            return cleaned + note
        kept = max(0, min(kept - 100, kept * room // (len(cleaned) + len(note))))

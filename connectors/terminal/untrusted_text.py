"""Text that people and agents wrote, so that a terminal shows it and obeys nothing in it."""

from __future__ import annotations

import re

#: With this everything begins that Muster itself says.
SIGN = "◈"
#: The sign, and what looks like it, by what is shown of it in anybody's text.
_UNSIGNED = {ord(char): f"⟨U+{ord(char):04X}⟩" for char in "◈◇◆❖⟐⧫⬥⬦⯁⯌⌖❂⟡⬖⬗⬘⬙"}
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """`text` without anything that a terminal would obey: control characters and those that turn the direction."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def unsigned(text: str) -> str:
    """`text` with the sign of Muster's notices, and what looks like it, shown by their numbers."""
    return text.translate(_UNSIGNED)

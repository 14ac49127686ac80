"""Durations as people write them in commands and files: ``90``, ``30s``, ``15m``, ``2h``, ``1h30m``, ``7d``."""

from __future__ import annotations

import re
from typing import Final

_DURATION: Final = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
_SECONDS: Final = (604_800, 86_400, 3_600, 60, 1)
#: The maximum duration in seconds; a longer one is a typing error.
_LONGEST: Final = 10 * 366 * 86_400


def read(text: str) -> float:
    """Return the seconds of a written duration.

    Raises:
        ValueError: `text` is not a duration.
    """
    match = _DURATION.fullmatch(text.strip().casefold().replace(" ", ""))
    if match is None or not any(match.groups()):
        raise ValueError(text)
    parts = zip(match.groups(), _SECONDS, strict=True)
    seconds = sum(float(count) * unit for count, unit in parts if count)
    if seconds > _LONGEST:
        raise ValueError(text)
    return seconds


def of_setting(value: object) -> float:
    """Return the seconds of a duration in a settings file.

    Raises:
        ValueError: `value` is not a duration; the message says how to write one.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("expected a length of time, such as 30s, 15m, 2h, 1h30m or 7d")
    try:
        seconds = read(str(value))
    except ValueError:
        raise ValueError(
            f"not a length of time: {str(value)[:40]!r}. Write it like 30s, 15m, 2h, 1h30m or 7d."
        ) from None
    if seconds <= 0:
        raise ValueError(f"found {value!r}; a length of time must be more than nothing.")
    return seconds

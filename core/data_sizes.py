"""Data sizes as people write them in files: ``200 MB``, ``1.5GB``, ``64 MiB``, ``500 kB``, or plain bytes."""

from __future__ import annotations

import re
from typing import Final

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?", re.IGNORECASE)
_POWERS: Final = {"k": 1, "m": 2, "g": 3, "t": 4}
#: The maximum size in bytes; a larger one is a typing error.
_LARGEST: Final = 100 * 10**12


def read(text: str) -> int:
    """Return the number of bytes of a written data size.

    Raises:
        ValueError: `text` is not a data size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    number, unit, binary = match.groups()
    count = float(number) * (1024 if binary else 1000) ** _POWERS[unit.lower()] if unit else float(number)
    if count > _LARGEST:
        raise ValueError(text)
    return round(count)


def of_setting(value: object) -> int:
    """Return the number of bytes of a data size in a settings file.

    Raises:
        ValueError: `value` is not a data size; the message says how to write one.
    """
    how = "Write it like 200 MB, 1.5 GB or 64 MiB."
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"expected an amount of data. {how}")
    try:
        count = read(str(value))
    except ValueError:
        raise ValueError(f"not an amount of data: {str(value)[:40]!r}. {how}") from None
    if count < 10**6:
        raise ValueError(f"found {value!r}; expected at least 1 MB.")
    return count

"""Types of values in muster.yaml: durations, data sizes, URLs, patterns and folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from core import data_sizes, durations

Duration = Annotated[
    float,
    BeforeValidator(durations.of_setting),
    WithJsonSchema({"type": ["string", "number"], "description": "A length of time: 30s, 15m, 2h, 1h30m, 7d."}),
]
"""Seconds, written ``15m``."""


Size = Annotated[
    int,
    BeforeValidator(data_sizes.of_setting),
    WithJsonSchema({"type": ["string", "integer"], "description": "An amount of data: 200 MB, 1.5 GB, 64 MiB."}),
]
"""Bytes, written ``200 MB``."""


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", value):
        reason = "holds a user or a question mark" if "@" in value or "?" in value else repr(value[:80])
        raise ValueError(f"not a plain URL: {reason}. Write it like https://api.example.org.")
    return value.rstrip("/")


def _pattern(value: str) -> str:
    try:
        matches_nothing = re.compile(f"x|(?:{value})").search("") is None
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression: {value[:80]!r} ({error}).") from None
    if not matches_nothing:
        raise ValueError(f"the pattern {value[:80]!r} fits the empty text, so it would hide everything.")
    return value


def _folder(value: str) -> str:
    path = Path(value)
    if value.startswith("~/"):
        path = path.expanduser()
    if not path.is_absolute() or not value.isprintable():
        raise ValueError(f"found {value[:80]!r}; expected an absolute path, or one that begins with ~/.")
    return str(path)


Url = Annotated[str, AfterValidator(_url)]
Pattern = Annotated[str, AfterValidator(_pattern)]
"""A regular expression that does not match the empty text."""
Folder = Annotated[str, AfterValidator(_folder)]
"""An absolute path; ``~/`` at its start is expanded."""


class Block(BaseModel):
    """The base class of the blocks of muster.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False)

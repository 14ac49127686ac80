"""Pictures that came with messages, kept as files in the agent's folder until their turn is over."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from core.crash_points import around, declare
from fleet.errors import AgentRefused

WRITE: Final = declare("image.write")

_SUFFIXES: Final = {"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp"}
_TYPES: Final = {suffix: kind for kind, suffix in _SUFFIXES.items()}
_COUNT: Final = 10


def keep(folder: Path, message: str, images: Sequence[Any]) -> tuple[str, ...]:
    """Write a message's pictures, durably, and return their paths.

    Raises:
        AgentRefused: one of them is no picture that a runtime could take.
        OSError: they could not be written.
    """
    if len(images) > _COUNT:
        raise AgentRefused(f"{len(images)} pictures are too many for one message; send at most {_COUNT}.")
    contents = [_content(image) for image in images]
    place = folder / "images"
    place.mkdir(mode=0o700, exist_ok=True)
    stem = hashlib.sha256(message.encode()).hexdigest()[:24]
    paths = []
    with around(WRITE):
        for number, (suffix, content) in enumerate(contents):
            path = place / f"{stem}-{number}{suffix}"
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(fd)
            paths.append(str(path))
    return tuple(paths)


def load(paths: Sequence[str]) -> list[tuple[str, str]]:
    """Media type and base64 content of kept pictures; one that is gone is left out."""
    loaded = []
    for path in map(Path, paths):
        with contextlib.suppress(OSError):
            kind = _TYPES.get(path.suffix, "application/octet-stream")
            loaded.append((kind, base64.b64encode(path.read_bytes()).decode("ascii")))
    return loaded


def forget(paths: Sequence[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            Path(path).unlink()


def _content(image: Any) -> tuple[str, bytes]:
    source = image if isinstance(image, dict) else {}
    kind = source.get("media_type")
    if kind not in _SUFFIXES:
        raise AgentRefused(f"{kind!r} is no kind of picture that runtimes take; send {', '.join(sorted(_SUFFIXES))}.")
    try:
        return _SUFFIXES[kind], base64.b64decode(str(source.get("data", "")), validate=True)
    except (binascii.Error, ValueError):
        raise AgentRefused("A picture's content is not valid base64.") from None

"""Detects contents that a body's length does not bound (budget.limits.input_bound.Contents), while the body is parsed.

Each object of the input is checked once, as it is parsed, with all of its pairs: a duplicate member hides nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from json.decoder import JSONDecoder
from typing import Any, Final

from egress.provider_endpoints import Api

_PICTURES: Final = frozenset({"image", "image_url", "input_image", "computer_screenshot"})
#: Contents that the provider reads as pictures, or that only the provider has.
_HIDDEN: Final = frozenset(
    {
        *("document", "file", "input_file", "input_audio", "input_video", "item_reference", "container_upload"),
        *("compaction", "image_generation_call", "file_search_call", "code_interpreter_call"),
    }
)
_TOLD_APART: Final = _PICTURES | _HIDDEN | {"reasoning"}
_ADDING: Final = frozenset(
    {"tools", "tool_choice", "functions", "output_format", "output_config", "response_format", "text", "thinking"}
)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


class TwiceError(Exception):
    """An object has a duplicate member."""


class Look:
    """Decodes the members of one body, and counts what it finds in them."""

    def __init__(self) -> None:
        self.loosely = JSONDecoder(parse_constant=_no_number, object_pairs_hook=self._pairs)
        """A name that stands twice is the provider's business."""
        self.strictly = JSONDecoder(parse_constant=_no_number, object_pairs_hook=self._pairs_once)
        """Raises `TwiceError` for one."""
        self.begin()

    def begin(self) -> None:
        """Reset all findings."""
        self.pictures = 0
        self.hidden = False
        self.caches = False
        """A mark of Anthropic's says that something is to be cached."""

    def _pairs_once(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = self._pairs(pairs)
        if len(found) != len(pairs):
            raise TwiceError
        return found

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Check one object (`json.JSONDecoder.object_pairs_hook`)."""
        found = dict(pairs)
        if "cache_control" in found:
            self.caches = True
        if "type" in found:
            if len(found) == len(pairs):
                self._look(found["type"], found)
            else:
                for key, value in pairs:
                    if key == "type":
                        self._look(value, found)
        return found

    def _look(self, kind: object, found: Mapping[str, Any]) -> None:
        if type(kind) is not str or kind not in _TOLD_APART:
            return
        if kind in _PICTURES:
            self.pictures += 1
        elif kind != "reasoning" or not found.get("encrypted_content"):
            # The provider has stored reasoning that is not included here.
            self.hidden = True


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.look = Look()


_of_thread: Final = _OfThread()


def fresh_look() -> Look:
    """Return this thread's reset instance, valid until the next call. Creating one takes as long as parsing a short
    body."""
    _of_thread.look.begin()
    return _of_thread.look


def adds(values: Mapping[str, Any]) -> bool:
    """Return whether the provider adds text of its own to such a request."""
    return any(values.get(key) for key in _ADDING)


def previous_of(api: Api, values: Mapping[str, Any]) -> str | None:
    """Return the id of the response that a request continues, or None."""
    previous = values.get("previous_response_id") if api == "responses" else None
    return previous if isinstance(previous, str) and previous else None


def refers(api: Api, values: Mapping[str, Any]) -> bool:
    """Return whether a request continues a conversation that the provider stores."""
    return api == "responses" and bool(values.get("conversation"))


def compacts(values: Mapping[str, Any]) -> bool:
    """Return whether the provider may summarize the conversation before it answers, and so read it twice."""
    managed = values.get("context_management")
    return managed is not None and "compact" in str(managed)

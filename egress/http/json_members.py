"""The members of a request's outermost JSON object, each with its position.

A body that two JSON parsers could read differently is refused: a duplicate member, an encoding other than UTF-8, an
invalid number.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any

from egress.http.unbounded_contents import Look, TwiceError
from egress.http.unmetered_costs import RequestNotAllowed

MOST_PARTS = 1_000_000
"""The maximum number of values in a body: no conversation has more, and each uses memory."""
_CHECKED_BYTES = 256 * 1024

_SPACE = re.compile(r"[ \t\n\r]*")
_SPACES = frozenset(" \t\n\r")
#: Members whose contents are not interpreted: the provider resolves duplicate names there.
_UNREAD = frozenset({"messages", "instructions", "system"})
_PLAIN = JSONDecoder()


def members(
    body: bytes, look: Look, *, read: Container[str], changing: Container[str]
) -> tuple[dict[str, Any], dict[str, tuple[int, int]], int]:
    """Parse a body.

    Args:
        body: the whole body.
        look: notes what is inside the members.
        read: the names of the members to interpret.
        changing: the names of the members that may change.

    Returns:
        The interpreted members, the positions of those that may change in bytes, and where to insert a first one.

    Raises:
        RequestNotAllowed: it is not one JSON object, or two parsers could read it differently.
    """
    if len(body) > _CHECKED_BYTES and sum(map(body.count, (b",", b"[", b"{"))) > MOST_PARTS:
        raise RequestNotAllowed(f"the body has more than {MOST_PARTS:,} values; send fewer.", status=413)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestNotAllowed(f"the body is not UTF-8: {error.reason} at byte {error.start}.") from None
    try:
        values, places, inside = scan(text, look, read=read)
    except JSONDecodeError as error:
        raise RequestNotAllowed(f"the body is not JSON: {error.msg} at character {error.pos}.") from None
    except TwiceError:
        raise RequestNotAllowed(
            "a member is in an object twice; which one counts is not defined. Send it once."
        ) from None
    except RecursionError:
        raise RequestNotAllowed("the body is nested too deeply.") from None
    except ValueError as error:
        raise RequestNotAllowed(f"the body is not JSON: {str(error)[:200]}.") from None
    return values, _in_bytes(text, places, changing), inside


def scan(text: str, look: Look, *, read: Container[str]) -> tuple[dict[str, Any], dict[str, tuple[int, int]], int]:
    """Return the interpreted members, the positions of all in characters, and where to insert a first one in bytes.

    Raises:
        JSONDecodeError, TwiceError, RecursionError, RequestNotAllowed: see `members`.
    """
    place = _after_space(text, 0)
    if text[place : place + 1] != "{":
        raise RequestNotAllowed("the body is not a JSON object.")
    inside = place + 1
    values: dict[str, Any] = {}
    places: dict[str, tuple[int, int]] = {}
    place = _after_space(text, inside)
    closed = text[place : place + 1] == "}"
    while not closed:
        if text[place : place + 1] != '"':
            raise JSONDecodeError("a member's name in double quotes is expected", text, place)
        key, place = _PLAIN.raw_decode(text, place)
        if key in values:
            raise RequestNotAllowed(
                f"the member {key[:60]!r} is there twice; which one counts is not defined. Send it once."
            )
        place = _after_space(text, place)
        if text[place : place + 1] != ":":
            raise JSONDecodeError("a colon is expected", text, place)
        start = _after_space(text, place + 1)
        try:
            value, place = (look.loosely if key in _UNREAD else look.strictly).raw_decode(text, start)
        except StopIteration as stop:
            raise JSONDecodeError("a value is expected", text, stop.value) from None
        values[key] = value if key in read and key != "messages" else None
        places[key] = (start, place)
        place = _after_space(text, place)
        closed = text[place : place + 1] == "}"
        if not closed:
            if text[place : place + 1] != ",":
                raise JSONDecodeError("a comma or the end of the object is expected", text, place)
            place = _after_space(text, place + 1)
    if _after_space(text, place + 1) != len(text):
        raise JSONDecodeError("nothing is expected after the object", text, place + 1)
    return values, places, len(text[:inside].encode())


def _after_space(text: str, place: int) -> int:
    if text[place : place + 1] not in _SPACES:
        return place
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _in_bytes(text: str, places: Mapping[str, tuple[int, int]], changing: Container[str]) -> dict[str, tuple[int, int]]:
    kept = {key: span for key, span in places.items() if key in changing}
    if text.isascii():
        return kept
    return {key: (len(text[:start].encode()), len(text[:end].encode())) for key, (start, end) in kept.items()}

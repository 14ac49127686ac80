r"""The search for secret values in complete or streamed content, however they are escaped.

A server that repeats a key may escape it like JSON or a URL: `\u0073k-...`, `\/`, `%73k-...`, mixed and nested. So the
search compares the unescaped content, and the values are masked at their place in the original content. Content without
an escape costs one search per value.

Encodings that no reader decodes by itself are not decoded here either: base64, hexadecimal, a key spelled backwards.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

Span: TypeAlias = tuple[int, int]
"""The start and the end of a range; the end is exclusive."""

#: The minimum length of a masked value in characters. Masking every short string would hide more than it protects.
SHORTEST: Final = 8
#: The maximum number of nested escapes to undo. (`%5C%75...` is JSON inside of a URL, and takes two.)
MOST_LAYERS: Final = 4
#: The maximum number of bytes of one escaped character, which bounds the part of a stream that is held back.
_LONGEST_CHARACTER: Final = 64
_HEX: Final = rb"[0-9a-fA-F]"
#: The bytes that nested escapes consist of.
_ESCAPING: Final = frozenset(b"\\%u0123456789abcdefABCDEF")
_ANY_BYTE: Final = rb"[2-9a-fA-F]" + _HEX
_ANY_UNIT: Final = rb"[dD][89abAB]" + 2 * _HEX + rb"\\u[dD][c-fC-F]" + 2 * _HEX + rb"|" + 4 * _HEX
_NOTHING: Final = re.compile(rb"(?!)")
_STRAY: Final = re.compile(rb"\\+")
#: The possible beginning of an escape. Only the last bytes are searched for it.
_HALF_ESCAPE: Final = re.compile(
    rb"(?:\\u[dD][89abAB][0-9a-fA-F]{2})?\\(?:u[0-9a-fA-F]{0,3})?\Z|\\u[dD][89abAB][0-9a-fA-F]{2}\Z|%(?:25)*[0-9a-fA-F]?\Z"
)
_HALF_LOOKED_AT: Final = 64
_SHORT: Final = 300


class SecretValues:
    """Secret values, and the search for them in content."""

    __slots__ = (
        "_escaped",
        "_escapes",
        "_line_ends",
        "_needles",
        "_shortest",
        "_signs",
        "_stray",
        "_values",
        "known",
        "most_held",
    )

    def __init__(self, values: Iterable[str] = (), *, shortest: int = SHORTEST) -> None:
        """Set the values to search for. Values shorter than `shortest` characters are never found."""
        self._shortest = shortest
        self.known: frozenset[str] = frozenset()
        """All values, also short ones."""
        self.most_held = 0
        """Bytes that a stream holds back at most."""
        self._values: tuple[bytes, ...] = ()
        self._needles: tuple[bytes, ...] = ()
        self._line_ends = False
        self._signs: frozenset[int] = frozenset()
        self._escaped = _NOTHING
        self._escapes: tuple[re.Pattern[bytes], ...] = ()
        self._stray: re.Pattern[bytes] | None = None
        self.learn(values)

    def __repr__(self) -> str:
        return f"<SecretValues: {len(self.known)} known>"

    def learn(self, values: Iterable[str]) -> None:
        """Add values to search for. No value is ever removed."""
        known = self.known | frozenset(values)
        if known == self.known:
            return
        self.known = known
        plain = [value.encode("utf-8", "surrogatepass") for value in known if len(value) >= self._shortest]
        signs = {sign for value in plain for sign in value if sign < 128 and not chr(sign).isalnum()}
        self._escapes, self._escaped = _escapes_of(plain, signs)
        # Markdown and shells escape signs that JSON does not. A backslash of a value may itself be escaped.
        self._stray = re.compile(rb"(?<!\\)\\++(?=[" + _class(signs) + rb"])") if signs else None
        if b"\\"[0] in signs:
            self._stray = _STRAY
        unescaped = [self._plain(value, self._escapes) for value in plain]
        self._values = tuple(dict.fromkeys([*plain, *(each for each in unescaped if 2 * len(each) >= self._shortest)]))
        self._signs = frozenset(sign for value in self._values for sign in value)
        self._line_ends = b"\n"[0] in self._signs
        self._needles = (b"%", b"\\u", *(b"\\" + bytes((sign,)) for sign in sorted(signs)))
        self.most_held = max(map(len, self._values), default=0) * _LONGEST_CHARACTER

    def spans(self, content: bytes) -> list[Span]:
        """Return the spans of all values in complete content, in order and without overlap."""
        return self._look(content, whole=True)[0]

    def look(self, content: bytes) -> tuple[list[Span], int]:
        """Return the spans of all values in incomplete content, and the number of bytes that may be shown now.

        The bytes after those may be the beginning of a value.
        """
        return self._look(content, whole=False)

    def spans_of(self, text: str) -> list[Span]:
        """Return the spans of all values in a complete text, counted in characters."""
        content = text.encode("utf-8", "surrogatepass")
        spans = self.spans(content)
        if len(content) == len(text):
            return spans
        return [(_characters(content, begin), _characters(content, end)) for begin, end in spans]

    def shown_of(self, text: str) -> int:
        """Return how many characters of an incomplete text may be shown now."""
        content = text.encode("utf-8", "surrogatepass")
        return _characters(content, self.look(content)[1])

    def masked(self, content: bytes) -> bytes:
        """Return complete content with an asterisk for each byte of a value. Length and JSON syntax do not change."""
        return starred(content, self.spans(content))

    def masked_text(self, text: str) -> str:
        """Return a complete text with asterisks in place of the values."""
        content = text.encode("utf-8", "surrogatepass")
        spans = self.spans(content)
        return starred(content, spans).decode("utf-8", "surrogatepass") if spans else text

    def _look(self, content: bytes, *, whole: bool) -> tuple[list[Span], int]:
        for value in self._values:
            if value in content:
                return self._look_closely(content, whole=whole)
        # Long content rarely has the first characters of an escape, and a search for those is faster.
        if (len(content) < _SHORT or any(needle in content for needle in self._needles)) and self._escaped.search(
            content
        ):
            return self._look_closely(content, whole=whole)
        # The usual case. Most values have no line ends, so nothing is held back at the end of an event.
        if whole or not self._values or (content[-1:] == b"\n" and not self._line_ends):
            return [], len(content)
        return [], self._begun(content[: _half_escape(content)])

    def _look_closely(self, content: bytes, *, whole: bool) -> tuple[list[Span], int]:
        # Search the original content as well: an apparent escape may be plain text.
        spans, safe = self._places(content, []), len(content)
        goes_on = not whole and (content[-1:] != b"\n" or self._line_ends)
        if goes_on:
            safe = self._begun(content)
        # With escapes of both kinds the order matters: JSON in a URL differs from a URL in JSON.
        orders = (self._escapes, self._escapes[::-1]) if b"%" in content and b"\\" in content else (self._escapes,)
        # The part that is held back is at most this long, so only this part needs the search.
        end = max(0, len(content) - self.most_held - _HALF_LOOKED_AT)
        for order in orders:
            text = self._plain(content, order)
            if any(value in text for value in self._values):
                # Only this rare case needs the original place of each character.
                spans += self._places(*self._unescaped(content, order)[:2])
            if goes_on:
                text, layers, told = self._unescaped(content[end:], order, whole=False)
                begun = self._begun(text)
                safe = min(safe, end + (_before(layers, begun, begun + 1)[0] if begun < len(text) else told))
        spans = [(_whole_escape(content, begin), _escape_end(content, end)) for begin, end in spans]
        return _merged(spans), _whole_escape(content, safe)

    def _plain(self, content: bytes, order: tuple[re.Pattern[bytes], ...]) -> bytes:
        """Unescape `content` like `_unescaped`, without recording places."""
        text = content
        for _ in range(MOST_LAYERS):
            before = text
            for escape in order:
                text = escape.sub(_character, text)
            if text == before:
                break
        return self._stray.sub(b"", text) if self._stray is not None and b"\\" in text else text

    def _places(self, text: bytes, layers: list[_Layer]) -> list[Span]:
        """Return the spans of values in `text`, as places in the content before these layers were undone."""
        spans = []
        for value in self._values:
            begin = text.find(value)
            while begin >= 0:
                spans.append(_before(layers, begin, begin + len(value)))
                begin = text.find(value, begin + 1)
        return spans

    def _begun(self, text: bytes) -> int:
        """Return where an incomplete value begins at the end of `text`, or the length of `text`."""
        size = len(text)
        if not size or text[-1] not in self._signs:
            return size
        first = size
        for value in self._values:
            place = max(0, size - len(value) + 1)
            while (place := text.find(value[0], place, first)) >= 0:
                if value.startswith(text[place:]):
                    first = place
                    break
                place += 1
        return first

    def _unescaped(
        self, content: bytes, order: tuple[re.Pattern[bytes], ...], *, whole: bool = True
    ) -> tuple[bytes, list[_Layer], int]:
        """Return the unescaped `content`, the undone layers, and how much of `content` that covers.

        An incomplete escape at the end is not covered.
        """
        layers: list[_Layer] = []
        told = len(content)

        def cut(text: bytes) -> bytes:
            nonlocal told
            half = len(text) if whole else _half_escape(text)
            if half < len(text):
                told = min(told, _before(layers, half, half + 1)[0])
            return text[:half]

        text = cut(content)
        for _ in range(MOST_LAYERS):
            undone = len(layers)
            for escape in order:
                if (layer := _Layer.of(text, escape)) is not None:
                    layers.append(layer)
                    text = cut(layer.text)
            if len(layers) == undone:
                break
        if self._stray is not None and b"\\" in text and (layer := _Layer.of(text, self._stray)) is not None:
            layers.append(layer)
            text = layer.text
        return text, layers, told


class MaskedStream:
    """A filter that masks values in streamed content. It holds back only the possible beginning of a value."""

    __slots__ = ("_held", "_values")

    def __init__(self, values: SecretValues) -> None:
        self._values = values
        self._held = b""

    def feed(self, content: bytes) -> bytes:
        """Take the next piece and return what may be shown now. The whole output is as long as the whole input."""
        if self._held:
            content, self._held = self._held + content, b""
        spans, safe = self._values.look(content)
        size = len(content)
        if not spans and safe == size:
            return content
        safe = max(safe, size - self._values.most_held)
        for begin, end in spans:
            if begin < safe < end:
                # The value may continue as a longer one. If it is too long to hold back, mask it now.
                safe = begin if size - begin <= self._values.most_held else end
        self._held = content[safe:]
        return starred(content[:safe], [span for span in spans if span[1] <= safe])

    def end(self) -> bytes:
        """Return what was held back, after the last piece. From `SHORTEST` bytes on, mask it as a cut-off value."""
        content, self._held = self._held, b""
        return content if len(content) < SHORTEST else b"*" * len(content)


class _Layer:
    """One undone layer of escapes, with the original place of each byte in the content."""

    __slots__ = ("_after", "_at", "_before", "text")

    def __init__(self) -> None:
        self.text = b""
        self._at = [0]
        """Where something begins in the text: an unescaped character, or what stands between two of them."""
        self._before = [0]
        """Where that began in the content."""
        self._after = [-1]
        """Where it ended there; -1: it is as it was, byte for byte."""

    @classmethod
    def of(cls, content: bytes, escape: re.Pattern[bytes]) -> _Layer | None:
        """Undo one layer, or return None if there is nothing to undo."""
        made = cls()
        parts: list[bytes] = []
        place = size = 0
        for found in escape.finditer(content):
            begin, end = found.span()
            part = _character(found)
            parts += (content[place:begin], part)
            size += begin - place
            made._at += (size, size := size + len(part))
            made._before += (begin, end)
            made._after += (end, -1)
            place = end
        if not parts:
            return None
        parts.append(content[place:])
        made.text = b"".join(parts)
        return made

    def before(self, begin: int, end: int) -> Span:
        """Return the place of a span of the text in the content."""
        at = bisect_right(self._at, begin) - 1
        first = self._before[at] if self._after[at] >= 0 else self._before[at] + begin - self._at[at]
        at = bisect_right(self._at, end - 1) - 1
        last = self._after[at] if self._after[at] >= 0 else self._before[at] + end - self._at[at]
        return first, last


def starred(content: bytes, spans: Iterable[Span]) -> bytes:
    """Return `content` with an asterisk for each byte of these spans."""
    parts, place = [], 0
    for begin, end in spans:
        parts += [content[place:begin], b"*" * (end - begin)]
        place = end
    return b"".join([*parts, content[place:]]) if parts else content


def _escapes_of(values: list[bytes], signs: set[int]) -> tuple[tuple[re.Pattern[bytes], ...], re.Pattern[bytes]]:
    """Return patterns for percent escapes and JSON escapes, and one that tests for any escape.

    They ignore escapes of characters that no value has, which are nearly all escapes.
    """
    quoted = _class(signs & set(b'"/'))
    if all(map(bytes.isascii, values)):
        byte = b"|".join(_nibbles({*_ESCAPING, *(sign for value in values for sign in value)}))
        unit = b"00(?:" + byte + b")"
    else:
        byte, unit = _ANY_BYTE, _ANY_UNIT
    sign = rb"([" + quoted + rb"])" if quoted else rb"((?!))"
    # The pattern matches a whole run of backslashes, so that a long run is read once.
    json = rb"(?<!\\)(?=\\(?:[\\" + quoted + rb"]|u(?:" + unit + rb")))(\\++)(?:u(" + unit + rb")|" + sign + rb")?"
    # `%25` is an escaped `%`; any number of them is one layer.
    percent = rb"%(?:25)*(" + byte + rb")"
    stray = rb"|\\[" + _class(signs) + rb"]" if signs else b""
    return (re.compile(percent), re.compile(json)), re.compile(percent + rb"|\\u(?:" + unit + rb")" + stray)


def _class(signs: set[int]) -> bytes:
    return b"".join(re.escape(bytes((sign,))) for sign in sorted(signs))


def _nibbles(signs: set[int]) -> Iterator[bytes]:
    """Yield patterns for the two hexadecimal digits of the signs, one pattern for each first digit."""
    for high in range(2, 8):
        digits = {sign & 15 for sign in signs if sign >> 4 == high}
        low = "".join(sorted({digit for number in digits for digit in f"{number:x}{number:X}"}))
        if low:
            yield f"{high}[{low}]".encode()


def _characters(content: bytes, size: int) -> int:
    return len(content[:size].decode("utf-8", "surrogatepass"))


def _character(found: re.Match[bytes]) -> bytes:
    """Return the character that one escape means."""
    if found.re.groups == 0:
        return b""
    if found.re.groups == 1:
        return bytes.fromhex(found[1].decode())
    run, units, sign = found.groups()
    pairs, odd = divmod(len(run), 2)
    if units is None:
        return run[: pairs + (odd if sign is None else 0)] + (sign or b"")
    if not odd:
        return run[:pairs] + b"u" + units
    if len(units) > 4:
        high, low = int(units[:4], 16), int(units[-4:], 16)
        return run[:pairs] + chr(0x10000 + ((high & 0x3FF) << 10) + (low & 0x3FF)).encode()
    return run[:pairs] + chr(int(units, 16)).encode("utf-8", "surrogatepass")


def _half_escape(text: bytes) -> int:
    """Return where an incomplete escape begins at the end of `text`, or the length of `text`."""
    if not text or text[-1] not in _ESCAPING:
        return len(text)
    tail = text[-_HALF_LOOKED_AT:]
    size = len(tail)
    while found := _HALF_ESCAPE.search(tail):
        tail = tail[: found.start()]
    size = len(text) - size + len(tail)
    # A run of backslashes must not be split.
    return size if size == len(text) else len(text[:size].rstrip(b"\\"))


def _whole_escape(content: bytes, begin: int) -> int:
    """Move a start back to include the backslash that escapes its first character."""
    return begin - _backslashes(content, begin) % 2


def _escape_end(content: bytes, end: int) -> int:
    """Move an end forward to include a backslash that the last character escapes."""
    return end + (_backslashes(content, end) % 2 if content[end : end + 1] == b"\\" else 0)


def _backslashes(content: bytes, place: int) -> int:
    """Return the number of backslashes directly before a place."""
    return place - len(content[:place].rstrip(b"\\")) if content[place - 1 : place] == b"\\" else 0


def _before(layers: list[_Layer], begin: int, end: int) -> Span:
    for layer in reversed(layers):
        begin, end = layer.before(begin, end)
    return begin, end


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged

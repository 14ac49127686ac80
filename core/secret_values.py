r"""Where secret values stand in content, however they are escaped, also in content that comes piece by piece.

A server that repeats a key may write it as JSON or a URL has it: `\u0073k-...`, `\/`, `%73k-...`, in any mix, and one
inside the other. So content is compared after it was unescaped, and what is found is masked where it stands in the
content as it came. Content without an escape costs one search per value.

Encodings that no reader undoes by itself are not undone here either: base64, hexadecimal, a key spelled backwards.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Span: TypeAlias = tuple[int, int]
"""Where something begins, and where it has ended."""

#: Shorter values are left alone: to mask each occurrence of a short word would hide more than it protects.
SHORTEST: Final = 8
#: Escapes inside of escapes are undone so often. (`%5C%75...` is JSON inside of a URL, and takes two.)
MOST_LAYERS: Final = 4
#: The most bytes that one character of a value is escaped into, in what is held back of a stream.
_LONGEST_CHARACTER: Final = 64
_HEX: Final = rb"[0-9a-fA-F]"
#: Of these, escapes inside of escapes are made.
_ESCAPING: Final = frozenset(b"\\%u0123456789abcdefABCDEF")
_ANY_BYTE: Final = rb"[2-9a-fA-F]" + _HEX
_ANY_UNIT: Final = rb"[dD][89abAB]" + 2 * _HEX + rb"\\u[dD][c-fC-F]" + 2 * _HEX + rb"|" + 4 * _HEX
_NOTHING: Final = re.compile(rb"(?!)")
_STRAY: Final = re.compile(rb"\\+")
#: What may be the beginning of an escape. It is looked for in the last bytes alone.
_HALF_ESCAPE: Final = re.compile(
    rb"(?:\\u[dD][89abAB][0-9a-fA-F]{2})?\\(?:u[0-9a-fA-F]{0,3})?\Z|\\u[dD][89abAB][0-9a-fA-F]{2}\Z|%(?:25)*[0-9a-fA-F]?\Z"
)
_HALF_LOOKED_AT: Final = 64
_SHORT: Final = 300


class SecretValues:
    """Values that must not be seen, and where they stand in content."""

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
        """Take the values to look for. Those shorter than `shortest` characters are never found."""
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
        """Look for these values from now on, too. None is ever forgotten."""
        known = self.known | frozenset(values)
        if known == self.known:
            return
        self.known = known
        plain = [value.encode("utf-8", "surrogatepass") for value in known if len(value) >= self._shortest]
        signs = {sign for value in plain for sign in value if sign < 128 and not chr(sign).isalnum()}
        self._escapes, self._escaped = _escapes_of(plain, signs)
        # Markdown and shells escape signs that JSON does not; and a backslash of a value may itself be escaped.
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
        """Find all values in content that is whole. The spans are in order, and apart from each other."""
        return self._look(content, whole=True)[0]

    def look(self, content: bytes) -> tuple[list[Span], int]:
        """Find all values in content that goes on, and how much of it may be shown now.

        What is behind that may be the beginning of a value.
        """
        return self._look(content, whole=False)

    def spans_of(self, text: str) -> list[Span]:
        """Find all values in a text that is whole, by characters."""
        content = text.encode("utf-8", "surrogatepass")
        spans = self.spans(content)
        if len(content) == len(text):
            return spans
        return [(_characters(content, begin), _characters(content, end)) for begin, end in spans]

    def shown_of(self, text: str) -> int:
        """Return how many characters of a text that goes on may be shown now."""
        content = text.encode("utf-8", "surrogatepass")
        return _characters(content, self.look(content)[1])

    def masked(self, content: bytes) -> bytes:
        """Return whole content with an asterisk for each byte of a value: it keeps its length, and stays valid JSON."""
        return starred(content, self.spans(content))

    def masked_text(self, text: str) -> str:
        """Return a whole text with asterisks in place of values."""
        content = text.encode("utf-8", "surrogatepass")
        spans = self.spans(content)
        return starred(content, spans).decode("utf-8", "surrogatepass") if spans else text

    def _look(self, content: bytes, *, whole: bool) -> tuple[list[Span], int]:
        for value in self._values:
            if value in content:
                return self._look_closely(content, whole=whole)
        # In long content nearly always none of its first characters is found, which is quicker to see.
        if (len(content) < _SHORT or any(needle in content for needle in self._needles)) and self._escaped.search(
            content
        ):
            return self._look_closely(content, whole=whole)
        # The usual case. Values have no line ends: at the end of an event nothing is held back.
        if whole or not self._values or (content[-1:] == b"\n" and not self._line_ends):
            return [], len(content)
        return [], self._begun(content[: _half_escape(content)])

    def _look_closely(self, content: bytes, *, whole: bool) -> tuple[list[Span], int]:
        # As it came, too: what happens to be an escape may be none.
        spans, safe = self._places(content, []), len(content)
        goes_on = not whole and (content[-1:] != b"\n" or self._line_ends)
        if goes_on:
            safe = self._begun(content)
        # JSON in a URL and a URL in JSON are not the same where both have escapes.
        orders = (self._escapes, self._escapes[::-1]) if b"%" in content and b"\\" in content else (self._escapes,)
        # What is held back is no longer, so no more needs to be looked through for it.
        end = max(0, len(content) - self.most_held - _HALF_LOOKED_AT)
        for order in orders:
            text = self._plain(content, order)
            if any(value in text for value in self._values):
                # Seldom: only then it matters where each character stood.
                spans += self._places(*self._unescaped(content, order)[:2])
            if goes_on:
                text, layers, told = self._unescaped(content[end:], order, whole=False)
                begun = self._begun(text)
                safe = min(safe, end + (_before(layers, begun, begun + 1)[0] if begun < len(text) else told))
        spans = [(_whole_escape(content, begin), _escape_end(content, end)) for begin, end in spans]
        return _merged(spans), _whole_escape(content, safe)

    def _plain(self, content: bytes, order: tuple[re.Pattern[bytes], ...]) -> bytes:
        """`content` unescaped, as `_unescaped` does it."""
        text = content
        for _ in range(MOST_LAYERS):
            before = text
            for escape in order:
                text = escape.sub(_character, text)
            if text == before:
                break
        return self._stray.sub(b"", text) if self._stray is not None and b"\\" in text else text

    def _places(self, text: bytes, layers: list[_Layer]) -> list[Span]:
        """Return where values are in `text`, in the content that it was before these layers were undone."""
        spans = []
        for value in self._values:
            begin = text.find(value)
            while begin >= 0:
                spans.append(_before(layers, begin, begin + len(value)))
                begin = text.find(value, begin + 1)
        return spans

    def _begun(self, text: bytes) -> int:
        """Return where at the end of `text` a value begins that may go on; its length: nowhere."""
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
        """`content` unescaped, what was undone of it, and how much of `content` that is: half an escape is none."""
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
    """Masks values in content that comes in pieces. It holds back what may be the beginning of a value, alone."""

    __slots__ = ("_held", "_values")

    def __init__(self, values: SecretValues) -> None:
        self._values = values
        self._held = b""

    def feed(self, content: bytes) -> bytes:
        """Take the next piece; return what may be shown now. In all, as many bytes come out as went in."""
        if self._held:
            content, self._held = self._held + content, b""
        spans, safe = self._values.look(content)
        size = len(content)
        if not spans and safe == size:
            return content
        safe = max(safe, size - self._values.most_held)
        for begin, end in spans:
            if begin < safe < end:
                # It may go on as another one. Of one that is too long to wait for, nothing is shown.
                safe = begin if size - begin <= self._values.most_held else end
        self._held = content[safe:]
        return starred(content[:safe], [span for span in spans if span[1] <= safe])

    def end(self) -> bytes:
        """Return what was held back: no more comes. A value that was cut off there is masked, unless little came."""
        content, self._held = self._held, b""
        return content if len(content) < SHORTEST else b"*" * len(content)


class _Layer:
    """One layer of escapes that was undone, and where in the content each byte stood before."""

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
        """Undo one layer; None: there is nothing to undo."""
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
        """Return where a span of the text was in the content."""
        at = bisect_right(self._at, begin) - 1
        first = self._before[at] if self._after[at] >= 0 else self._before[at] + begin - self._at[at]
        at = bisect_right(self._at, end - 1) - 1
        last = self._after[at] if self._after[at] >= 0 else self._before[at] + end - self._at[at]
        return first, last


def starred(content: bytes, spans: Iterable[Span]) -> bytes:
    """Return `content` with asterisks for the bytes of these spans."""
    parts, place = [], 0
    for begin, end in spans:
        parts += [content[place:begin], b"*" * (end - begin)]
        place = end
    return b"".join([*parts, content[place:]]) if parts else content


def _escapes_of(values: list[bytes], signs: set[int]) -> tuple[tuple[re.Pattern[bytes], ...], re.Pattern[bytes]]:
    """Return one layer of percent escapes, one of JSON's, and whether there is anything to undo.

    Escapes of characters that no value has are left alone, since nearly all are such.
    """
    quoted = _class(signs & set(b'"/'))
    if all(map(bytes.isascii, values)):
        byte = b"|".join(_nibbles({*_ESCAPING, *(sign for value in values for sign in value)}))
        unit = b"00(?:" + byte + b")"
    else:
        byte, unit = _ANY_BYTE, _ANY_UNIT
    sign = rb"([" + quoted + rb"])" if quoted else rb"((?!))"
    # A run of backslashes is taken whole, so that a long one is read once.
    json = rb"(?<!\\)(?=\\(?:[\\" + quoted + rb"]|u(?:" + unit + rb")))(\\++)(?:u(" + unit + rb")|" + sign + rb")?"
    # `%25` is an escaped `%`: any number of them are one layer.
    percent = rb"%(?:25)*(" + byte + rb")"
    stray = rb"|\\[" + _class(signs) + rb"]" if signs else b""
    return (re.compile(percent), re.compile(json)), re.compile(percent + rb"|\\u(?:" + unit + rb")" + stray)


def _class(signs: set[int]) -> bytes:
    return b"".join(re.escape(bytes((sign,))) for sign in sorted(signs))


def _nibbles(signs: set[int]) -> Iterator[bytes]:
    """Yield the two hexadecimal digits of each sign, by the first of them."""
    for high in range(2, 8):
        digits = {sign & 15 for sign in signs if sign >> 4 == high}
        low = "".join(sorted({digit for number in digits for digit in f"{number:x}{number:X}"}))
        if low:
            yield f"{high}[{low}]".encode()


def _characters(content: bytes, size: int) -> int:
    return len(content[:size].decode("utf-8", "surrogatepass"))


def _character(found: re.Match[bytes]) -> bytes:
    """Undo one escape."""
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
    """Return where at the end of `text` an escape begins that may go on; its length: nowhere."""
    if not text or text[-1] not in _ESCAPING:
        return len(text)
    tail = text[-_HALF_LOOKED_AT:]
    size = len(tail)
    while found := _HALF_ESCAPE.search(tail):
        tail = tail[: found.start()]
    size = len(text) - size + len(tail)
    # A whole run of backslashes belongs together.
    return size if size == len(text) else len(text[:size].rstrip(b"\\"))


def _whole_escape(content: bytes, begin: int) -> int:
    """Return where to begin, so that no backslash is left that escapes what is there no longer."""
    return begin - _backslashes(content, begin) % 2


def _escape_end(content: bytes, end: int) -> int:
    """Return where to end, so that no backslash is left whose own backslash is gone."""
    return end + (_backslashes(content, end) % 2 if content[end : end + 1] == b"\\" else 0)


def _backslashes(content: bytes, place: int) -> int:
    """Return how many backslashes are before a place."""
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

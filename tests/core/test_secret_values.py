"""A secret value is found in every spelling of it, wherever the content is cut, and nothing else is touched."""

from __future__ import annotations

import json
import random
import string
import time
from collections.abc import Sequence
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.secret_values import MaskedStream, SecretValues
from tests import soak

KEY = "sk-ant-api03-abc/DEF_ghi-JKL0123"
SIGNS = string.ascii_letters + string.digits + "-_./+=~"
#: Shares no sign with a value, but for what escapes are made of.
FILLERS = [
    "",
    " ",
    "\n",
    "日本語",
    '\\"',
    "\\n",
    "\\\\",
    "100% ",
    "%zz",
    "\\u4f60",
    '{"!": "',
    "\n\n",
    "%",
    "\\u00",
    "\\",
]


def as_json(dice: random.Random, text: str) -> str:
    """As the inside of a JSON string, with more escapes than are needed."""
    said = []
    for sign in text:
        roll = dice.random()
        if roll < 0.3:
            said.append("".join(dice.choice((each.lower(), each.upper())) for each in f"\\u{ord(sign):04x}"))
            said[-1] = said[-1].replace("U", "u")
        elif sign == "/" and roll < 0.7:
            said.append("\\/")
        else:
            said.append(json.dumps(sign)[1:-1])
    return "".join(said)


def as_url(dice: random.Random, text: str) -> str:
    """As a part of a URL, with more escapes than are needed."""
    said = []
    for sign in text:
        if dice.random() < 0.3 or sign in "%\\":
            said.append("".join(dice.choice((each.lower(), each.upper())) for each in f"%{ord(sign):02x}"))
        else:
            said.append(sign)
    return "".join(said)


def spelled(dice: random.Random, value: str) -> str:
    """A value as readers undo it: escaped up to three times, or a part so and a part otherwise."""
    if dice.random() < 0.3:
        cut = dice.randrange(len(value) + 1)
        return spelled(dice, value[:cut]) + spelled(dice, value[cut:])
    for escape in dice.choices((as_json, as_url), k=dice.choice((0, 1, 1, 1, 2, 2, 3))):
        value = escape(dice, value)
    return value


def through(values: SecretValues, pieces: Sequence[bytes]) -> bytes:
    stream = MaskedStream(values)
    return b"".join([*map(stream.feed, pieces), stream.end()])


def cut(dice: random.Random, content: bytes) -> list[bytes]:
    """Into pieces, some of a byte each."""
    if dice.random() < 0.3 and len(content) < 400:
        return [content[place : place + 1] for place in range(len(content))]
    places = sorted(dice.randrange(len(content) + 1) for _ in range(dice.choice((0, 1, 1, 2, 5))))
    return [content[begin:end] for begin, end in zip([0, *places], [*places, len(content)], strict=True)]


def play(dice: random.Random) -> None:
    value = "".join(dice.choices(SIGNS, k=dice.choice((8, 12, 40, 200))))
    # Where a value itself reads like an escape, what an escape inside of one means is anybody's guess.
    value = value.replace("u00", "v00")
    values = SecretValues([value, "another-one-of-ours"])
    before, after = (" ".join(dice.choices(FILLERS, k=3)) + " " for _ in range(2))
    said = spelled(dice, value)
    content = (before + said + after).encode()
    for pieces in ([content], cut(dice, content)):
        shown = through(values, pieces)
        expected = before.encode() + b"*" * len(said) + after.encode()
        assert shown == expected, (value, content, pieces)
    assert values.masked(content) == expected


@pytest.mark.parametrize("number", range(60))
def test_every_spelling_is_masked_wherever_it_is_cut(number: int) -> None:
    play(random.Random(number))


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_every_spelling_is_masked_for_long() -> None:
    seed, until, number = soak.seed(), time.monotonic() + soak.share(), 0
    print(f"seed: {seed}")
    while time.monotonic() < until:
        play(random.Random(f"{seed}/{number}"))
        number += 1


@pytest.mark.parametrize(
    "said",
    [
        KEY,
        KEY.replace("/", "\\/"),
        KEY.replace("s", "\\u0073", 1),
        KEY.replace("k", "\\u006B", 1),
        KEY.replace("s", "%73", 1),
        quote(KEY, safe=""),
        quote(quote(KEY, safe=""), safe=""),
        json.dumps(json.dumps(KEY.replace("s", "\\u0073", 1)))[3:-3],
        "".join(f"\\u{ord(sign):04x}" for sign in KEY),
        "".join(f"%5C%75%30%30%{ord(f'{ord(sign):02x}'[0]):02x}%{ord(f'{ord(sign):02x}'[1]):02x}" for sign in KEY),
        "".join(f"\\u0025{ord(sign):02x}" for sign in KEY),
        "".join(f"\\u005cu{ord(sign):04x}" for sign in KEY),
        KEY.replace("-", "\\-").replace("_", "\\_"),
    ],
)
def test_each_of_these_spellings_is_masked_at_every_place_where_it_may_be_split(said: str) -> None:
    values = SecretValues([KEY])
    content = f'{{"message": "{said} is no key"}}'.encode()
    expected = f'{{"message": "{"*" * len(said)} is no key"}}'.encode()
    for place in range(len(content) + 1):
        assert through(values, [content[:place], content[place:]]) == expected
    assert through(values, [content[place : place + 1] for place in range(len(content))]) == expected


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_what_holds_no_value_passes_byte_for_byte(content: bytes, places: list[int]) -> None:
    bounds = sorted(min(place, len(content)) for place in places)
    pieces = [content[begin:end] for begin, end in zip([0, *bounds], [*bounds, len(content)], strict=True)]
    assert through(SecretValues([KEY, "pässword mit ü"]), pieces) == content


@settings(max_examples=50)
@given(st.text('aZ09-_äß日😀"\\/ +%u', min_size=8, max_size=40), st.booleans())
def test_a_value_of_any_script_is_found_as_json_and_as_a_part_of_a_url(value: str, ascii_alone: bool) -> None:
    values = SecretValues([value])
    said = json.dumps(value, ensure_ascii=ascii_alone)
    if all(sign.isprintable() for sign in value):
        assert set(json.loads(values.masked(said.encode()))) <= {"*", "\\"}
    if value.isprintable() and "\\" not in value:
        assert set(values.masked(quote(value, safe="").encode())) <= {ord("*")}
    assert value not in values.masked_text(f"<{value}>")


def test_only_what_may_begin_a_value_is_held_back() -> None:
    stream = MaskedStream(SecretValues([KEY]))
    assert stream.feed(b"words and more") == b"words and more"
    assert stream.feed(b"words and s") == b"words and "
    assert stream.feed(b"o on, sk-ant") == b"so on, "
    assert stream.feed(b"-api03-nothing") == b"sk-ant-api03-nothing"
    assert stream.feed(b"half an escape \\u00") == b"half an escape "
    assert stream.feed(b"e4 ") == b"\\u00e4 "
    assert stream.feed(b"sk-ant-%6") == b""
    assert stream.feed(b"1pi0") == b""
    assert stream.feed(b"4, and so on") == b"sk-ant-%61pi04, and so on"
    assert stream.feed(b"the end: sk-ant") == b"the end: "
    assert stream.end() == b"sk-ant"
    assert stream.feed(b"broken off: sk-ant-api03-abc") == b"broken off: "
    assert stream.end() == b"*" * 16


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", '"}\n\n', "\\n\n\n"])
def test_nothing_is_held_back_at_the_end_of_an_event(end: str) -> None:
    stream = MaskedStream(SecretValues([KEY]))
    for said in (KEY[:-1], KEY[:5], "\\u00", "%7", "\\"):
        event = f"data: {said}{end}".encode()
        assert stream.feed(event) == event


def test_a_masked_document_is_json_of_the_same_length_whatever_stands_around_the_value() -> None:
    for value in (KEY, '"quoted-value"', "back\\slashed-value", "trailing-backslash\\", "ntnrbf-escape-like"):
        values = SecretValues([value])
        for before in ("", "\\", "\\\\", '"', "\n", "n", "%"):
            for after in ("", "\\", '"', "\n", "\\n"):
                document = json.dumps({"m": before + value + after, "n": [value], value: 1}).encode()
                shown = values.masked(document)
                assert len(shown) == len(document)
                found = json.loads(shown)
                assert value not in f"{list(found.items())}"
                assert value.strip("\\") not in json.dumps(found)


def test_values_that_overlap_are_masked_whole_also_when_they_are_split() -> None:
    values = SecretValues(["abcdefgh1234", "1234ijklmnop", "abababababab"])
    content = b"<abcdefgh1234ijklmnop><abababababababab>"
    for place in range(len(content) + 1):
        assert through(values, [content[:place], content[place:]]) == b"<" + b"*" * 20 + b"><" + b"*" * 16 + b">"


def test_short_values_are_left_alone_and_learned_ones_are_never_forgotten() -> None:
    values = SecretValues(["short"])
    stream = MaskedStream(values)
    assert stream.feed(b"a short walk") == b"a short walk"
    values.learn([KEY])
    values.learn(["another-one"])
    assert stream.feed(f"{KEY} another-one.".encode()) == b"*" * len(KEY) + b" ***********."
    assert KEY not in repr(values)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece", ["\\", "%", "%25", "\\u00", "\\u005c", "s", "sk-ant-", "\\u0073", "%73", KEY[:-1], "\\/"]
)
def test_nobody_can_make_it_slow_or_have_it_hold_much(piece: str) -> None:
    values = SecretValues([KEY])
    content = (piece * (200_000 // len(piece) + 1))[:200_000].encode()
    assert len(values.masked(content)) == len(content)
    stream = MaskedStream(values)
    given_, shown = 0, 0
    for place in range(0, 20_000, 50):
        given_ += 50
        shown += len(stream.feed(content[place : place + 50]))
        assert given_ - shown <= values.most_held

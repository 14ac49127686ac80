from __future__ import annotations

import re

import pytest

from bot.text.growing_text import GrowingText
from core.redaction import MASK, SecretMasker

SECRET = "correct-horse-battery"
REDACT = SecretMasker(known=frozenset({SECRET}))


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_a_long_text_comes_whole_but_for_its_secrets(size: int) -> None:
    words = " ".join(f"word{number}" for number in range(600))
    text = f"{words} {SECRET} {words} sk-ant-api03-Zq81kdkWmmQ0Xyz {words}."
    growing = GrowingText(REDACT)
    pieces = [growing.grow(text[at : at + size]) for at in range(0, len(text), size)]
    assert "".join(pieces) + growing.rest() == f"{words} {MASK} {words} {MASK} {words}."
    assert sum(map(bool, pieces)) > len(words) // 60, "it comes while it grows"


def test_text_that_nobody_read_still_tells_where_a_secret_is() -> None:
    for cut in range(1, len(SECRET)):
        growing = GrowingText(REDACT)
        growing.skip("the word ")
        growing.skip(f"is {SECRET[:cut]}")
        assert growing.grow(f"{SECRET[cut:]} and so on.") + growing.rest() == f"{MASK} and so on."


def test_a_secret_that_began_before_a_pause_is_not_shown_to_its_end() -> None:
    growing = GrowingText(REDACT)
    assert growing.grow(f"it is {SECRET[:7]}") + growing.rest() == f"it is {SECRET[:7]}"
    assert growing.grow(f"{SECRET[7:]} and more") + growing.rest() == f"\n{MASK} and more"


@pytest.mark.parametrize("size", range(1, 40))
def test_no_part_of_a_private_key_comes_before_its_end(size: int) -> None:
    body = "\n".join(f"MIIEowIBAAKCAQEAx{number}" + "Zq81kdkWmmQ0Xyz" * 3 for number in range(3))
    text = f"Here it is:\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\nIt is long."
    growing = GrowingText(REDACT)
    shown = "".join(growing.grow(text[at : at + size]) for at in range(0, len(text), size)) + growing.rest()
    # The header alone is no secret, and may come before there is one.
    assert re.sub(r"-----BEGIN [A-Z ]*-*\n+", "", shown) == f"Here it is:\n{MASK}\nIt is long."


def test_a_key_without_an_end_does_not_fill_the_memory() -> None:
    growing = GrowingText(REDACT)
    growing.grow("-----BEGIN PRIVATE KEY-----\n")
    shown = "".join(growing.grow("MIIEowIBAAKCAQEAx0" * 500 + "\n") for _ in range(10))
    assert len(repr(growing)) < 50_000, "all that it keeps"
    assert MASK in shown

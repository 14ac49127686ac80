"""What is shown of a forge's words in an error."""

from __future__ import annotations

from forge.model.errors import MOST_BODY_CHARACTERS, ForgeRefused


def test_a_refusal_shows_the_beginning_without_control_characters() -> None:
    refusal = ForgeRefused("No.", status=403, body="\x1b[2J\u202e a\r\n\tb " + "x" * 10_000)
    assert refusal.body.startswith("\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER} a b xxx")
    assert len(refusal.body) == MOST_BODY_CHARACTERS
    assert refusal.body.endswith("…")

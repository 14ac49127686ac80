"""What an agent's thread hears of what the egress did."""

from __future__ import annotations

import dataclasses

from bot.outlet import telling
from egress.entries import FOR_NOW, Action

REFUSED = Action(
    seq=1, id="a1", at=0.0, agent="coder0", action="refused", by="egress", result="refused",
    cause="The budget of coder0 is used up: 2 of 1 tokens used.",
)  # fmt: skip


def test_a_refusal_is_told_with_what_opens_it_and_one_that_passes_by_itself_is_not() -> None:
    assert (telling.told(REFUSED) or "").endswith("shows what is left.")
    assert telling.told(dataclasses.replace(REFUSED, result=FOR_NOW)) is None
    stopped = dataclasses.replace(REFUSED, cause="The emergency stop is set. `muster estop --clear` opens it again.")
    assert "what is left" not in (telling.told(stopped) or "what is left")

"""What a session is told of a conversation that it does not have."""

from __future__ import annotations

from bot.agents.journal.summary import CHARACTERS, summary
from bot.read_models.agent import SaidItem, ThoughtItem, ToolItem, TurnModel


def turn(number: int, *, said: str = "done", over: bool = True) -> TurnModel:
    return TurnModel(
        turn=str(number),
        message=f"m{number}",
        asked=f"task {number}",
        asked_by="ana",
        began_at=1.0,
        ended_at=2.0 if over else None,
        items=(
            ThoughtItem(text="secret thoughts", at=1.0),
            ToolItem(call="c", title="make test", status="completed", detail="output", at=1.0),
            SaidItem(text=said, at=1.0),
        ),
    )


def test_it_says_what_was_asked_done_and_said_in_order() -> None:
    assert summary([turn(1), turn(2, said="so far", over=False)]).splitlines() == [
        "Message from ana: task 1",
        "The agent did (completed): make test",
        "The agent said: done",
        "Message from ana: task 2",
        "The agent did (completed): make test",
        "The agent said: so far",
        "(This turn goes on.)",
    ]


def test_it_is_bounded_and_keeps_what_is_newest() -> None:
    told = summary([turn(number, said="x" * 100_000) for number in range(100)])
    assert len(told) <= CHARACTERS + 100
    assert told.startswith("(What came before is left out.)")
    assert "task 99" in told
    assert "task 1\n" not in told
    assert summary([]) == ""

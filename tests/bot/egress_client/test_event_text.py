"""What an agent's thread hears of what the egress did."""

from __future__ import annotations

import dataclasses

import pytest

from bot.commands.syntax import written
from bot.egress_client import event_text
from bot.egress_client.denied_requests import WINDOW_S, DeniedRequests
from egress.ledger.model import EXCESS, FOR_NOW, Action

REFUSED = Action(
    seq=1, id="a1", at=0.0, agent="coder0", action="refused", by="egress", result="refused",
    cause="The budget of coder0 is used up: 2 of 1 tokens used.", detail={"scope": "agent:coder0"},
)  # fmt: skip


def test_a_refusal_is_told_with_what_opens_it_and_one_that_passes_by_itself_is_not() -> None:
    assert (event_text.told(REFUSED) or "").endswith("shows what is left.")
    assert event_text.told(dataclasses.replace(REFUSED, result=FOR_NOW)) is None
    stopped = dataclasses.replace(
        REFUSED, detail={"scope": None}, cause="The emergency stop is set. `muster estop --clear` opens it again."
    )
    assert "what is left" not in (event_text.told(stopped) or "what is left")


def test_a_request_that_may_pass_a_limit_is_told() -> None:
    excess = dataclasses.replace(REFUSED, action=EXCESS, result="admitted", cause="It runs alone.")
    assert event_text.told(excess) == "⚠️ A request may pass a limit: It runs alone."


def test_who_is_ahead_of_its_pace_is_told_so_with_what_lets_it_go_on() -> None:
    cause = (
        "The shared budget of host is ahead of its pace. Opened before that by `muster budget authorize host AMOUNT`."
    )
    ahead = dataclasses.replace(REFUSED, cause=cause, detail={"scope": "host", "why": "pace"})
    said = written(event_text.told(ahead) or "", "!")
    assert said.startswith("⏳ A request was refused, for now: The shared budget of host is ahead of its pace.")
    assert "budget authorize host AMOUNT`" in said
    assert said.endswith(" `!pace` shows how far ahead it is.")
    assert event_text.told(dataclasses.replace(ahead, result=FOR_NOW)) is None


def tried(number: int, cause: str, *, action: str = "route-refused", at: float = 0.0, attempts: int = 0) -> Action:
    detail = {"attempts": attempts} if attempts else {}
    return Action(
        seq=number, id=f"a{number}", at=at, agent="coder0", action=action, by="egress", result="refused", cause=cause,
        detail=detail,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "action", "says"),
    [
        ("evil.example:443 is none of this sandbox's routes. An operator opens it by adding 'evil.example' to the "
         "routes of its sandbox profile in muster.yaml.", "route-refused", "to the routes of its sandbox profile"),
        ("10.0.0.1:80: it is private.", "route-refused", "under `routes` of its sandbox profile in muster.yaml"),
        ("GET /budget: no provider's", "refused", "Base URLs end in"),
        ("POST anthropic /v1/files: not among the calls", "refused", "no setting allows one"),
        ("GET /v1/budget with a body", "refused", "with a body"),
    ],
)  # fmt: skip
def test_an_attempt_says_what_opens_it_and_nothing_of_budgets(cause: str, action: str, says: str) -> None:
    said = written(event_text.told(tried(1, cause, action=action), profile="bubblewrap") or "", "!")
    assert says in said
    if cause.endswith("in muster.yaml."):
        assert said.endswith(
            " `bubblewrap` is built in: make one that `extends` it. Then `!roster apply`, and `!restart coder0`."
        )
    assert "what is left" not in said
    assert said.count("muster.yaml") <= 1


def test_an_agent_that_tries_host_after_host_is_told_of_thrice_and_then_in_one_line() -> None:
    attempts = DeniedRequests()
    rows = [tried(n, f"host{n % 9}.example:443: no", at=n / 10) for n in range(40)]
    rows.append(tried(99, "17 further attempts", action="refused", at=5, attempts=17))
    alone = [row for row in rows if attempts.meet(row, "l1")]
    assert {event_text.key(row, "l1") for row in alone} == {event_text.key(row, "l1") for row in rows[:3]}
    assert [attempts.meet(row, "l1") for row in rows] == [row in alone for row in rows], "read again, said again"
    assert list(attempts.due(WINDOW_S - 1)) == []
    ((agent, _, line),) = attempts.due(WINDOW_S + 1)
    count = len(rows) - 1 - len(alone) + 17
    assert agent == "coder0"
    assert f"{count} more of its attempts were refused within ten minutes (6 hosts or kinds" in line
    for row in rows:
        attempts.meet(dataclasses.replace(row, at=row.at + 1000), "l1")
    assert list(attempts.due(5000)) == [], "the same hosts are no news"

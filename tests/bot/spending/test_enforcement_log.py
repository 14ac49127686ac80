"""The log tells what was done to limits and because of them, each thing once."""

from __future__ import annotations

from typing import Any

from bot.spending.enforcement_log import ACTIONS, AuditedAction, enforcements


def row(at: float, action: str, by: str = "egress", *, door: str = "egress", **given: Any) -> AuditedAction:
    said = {name: given.pop(name) for name in ("outcome", "why") if name in given}
    if given.pop("pace", False):
        given["why"] = "pace"
    return AuditedAction(at=at, identity=by, door=door, action=action, arguments=given, **said)


def kinds(*rows: AuditedAction) -> list[tuple[str, str, str | None]]:
    newest_first = sorted(rows, key=lambda each: -each.at)
    return [(each.kind, each.by, each.agent) for each in enforcements(newest_first)]


def test_what_the_egress_did_by_itself_and_what_people_and_muster_had_it_do() -> None:
    assert kinds(
        row(1, "limit", agent="*", scope="host", why="host is used up"),
        row(2, "freeze", agent="a", scope="host", why="host is used up"),
        row(3, "cutoff", "matrix:@ana", agent="a"),
        row(4, "restore", "matrix:@ana", agent="a", why="restored by matrix:@ana"),
        row(5, "cutoff", "muster", agent="b", why="it used much"),
        row(6, "excess", agent="a", scope="host", kind="pool"),
    ) == [
        ("ran_alone", "egress", "a"), ("paused", "muster", "b"), ("restored", "matrix:@ana", "a"),
        ("cut_off", "matrix:@ana", "a"), ("frozen", "egress", "a"), ("used_up", "egress", None),
    ]  # fmt: skip


def test_the_end_and_the_start_of_an_agent_are_not_in_it() -> None:
    assert not kinds(
        row(1, "cutoff", "matrix:@ana", agent="a", why="to freeze it"),
        row(2, "restore", "muster", agent="a", why="started again"),
        row(3, "freeze", "matrix:@ana", door="chat", name="a"),
        row(4, "kill", "matrix:@ana", agent="a"),
        row(5, "refused", agent="a", why="only https"),
    )


def test_commands_that_did_nothing_are_not_in_it() -> None:
    assert kinds(
        row(1, "budget set", "u:a", door="chat", scope="agent:a", limit="5M"),
        row(2, "budget set", "u:b", door="chat", scope="host", limit="x", outcome="failed"),
        row(3, "budget clear", "u:a", door="shell", scope="host"),
        row(4, "budget authorize", "u:a", door="chat", scope="host", amount="5M"),
    ) == [("authorized", "u:a", None), ("budget_cleared", "u:a", None), ("budget_set", "u:a", "a")]


def test_the_same_refusal_again_and_again_is_one_entry() -> None:
    rows = [row(at, "refused", agent="a", scope="host", why="host is used up") for at in (1, 2, 3)]
    ahead = row(4, "refused", agent="a", scope="host", pace=True, why="ahead")
    (held, refused) = enforcements([ahead, *reversed(rows)])
    assert (held.kind, held.times) == ("held_by_pace", 1)
    assert (refused.kind, refused.times, refused.at, refused.last_at) == ("refused", 3, 1, 3)
    assert refused.why == "host is used up"


def test_an_emergency_stop_is_told_once_with_who_set_it() -> None:
    assert kinds(
        row(10, "estop", agent="*", why="/state/estop is there"),
        row(11, "estop", "u:a", agent="*", why="by u:a"),
        row(12, "estop", "u:a", door="chat"),
        row(500, "estop", "u:a", door="chat", clear=True),
        row(900, "estop", agent="*", why="/state/estop is there"),
    ) == [("estop", "egress", None), ("estop_over", "u:a", None), ("estop", "u:a", None)]


def test_all_that_it_knows_is_read_from_the_audit() -> None:
    assert {"budget set", "cutoff", "restore", "limit", "refused", "estop", "estop-clear", "excess"} <= set(ACTIONS)

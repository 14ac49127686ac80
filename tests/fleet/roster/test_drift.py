"""What applying a roster would do is read off what each agent was launched by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from fleet.roster import drift
from fleet.roster.drift import KeyDifference, RosterChange
from fleet.roster.launch_overrides import Basis, described
from fleet.roster.schema import AgentEntry


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    wanted: str = "running"
    state: str = "idle"
    basis: Mapping[str, Any] | None = None


def entry(name: str = "a", **keys: Any) -> AgentEntry:
    return AgentEntry.model_validate({"name": name, "runtime": "sim", **keys})


def row(*, said: Mapping[str, str] | None = None, wanted: str = "running", state: str = "idle", **keys: Any) -> Row:
    """An agent that was launched by an entry with these keys."""
    basis = Basis(said=said or {}, roster=described(entry(**keys))).to_json()
    return Row(name=keys.get("name", "a"), wanted=wanted, state=state, basis=basis)


def found(rows: list[Row], *entries: AgentEntry) -> list[RosterChange]:
    return drift.changes(rows, {each.name: each for each in entries})


def test_as_it_was_launched_nothing_differs() -> None:
    keys: dict[str, Any] = {"model": "m", "env": {"A": "b"}, "prompt": "p"}
    assert found([row(**keys)], entry(**keys)) == []
    assert found([row()], entry(persistent=True, alias="Ada", budget=5, skills=["x"], freshness="1h")) == []


@pytest.mark.parametrize(
    ("before", "after", "differences"),
    [
        ({"model": "m"}, {"model": "n"}, [KeyDifference(key="model", before="m", after="n")]),
        ({"model": "m"}, {}, [KeyDifference(key="model", before="m")]),
        ({}, {"role": "research"}, [KeyDifference(key="role", after="research")]),
        ({"env": {"A": "b", "C": "d"}}, {"env": {"A": "x"}}, [KeyDifference(key="env A"), KeyDifference(key="env C")]),
        ({}, {"prompt": "Be brief."}, [KeyDifference(key="prompt")]),
    ],
)
def test_what_changed_in_the_roster_starts_the_agent_again(
    before: dict[str, Any], after: dict[str, Any], differences: list[KeyDifference]
) -> None:
    (change,) = found([row(**before)], entry(**after))
    assert (change.agent, change.kind) == ("a", "restart")
    assert sorted(change.differences, key=lambda each: each.key) == differences


def test_what_the_launch_said_itself_is_no_difference() -> None:
    launched = row(said={"model": "mine"}, model="m")
    assert found([launched], entry(model="n")) == []
    assert [each.key for each in found([launched], entry(model="n", prompt="p"))[0].differences] == ["prompt"]


def test_who_left_the_roster_stops_and_who_never_ran_starts_if_it_is_persistent() -> None:
    rows = [row(name="gone"), row(name="stays"), row(name="was", wanted="stopped", state="stopped")]
    fleet = [entry("new", persistent=True), entry("stays"), entry("worker"), entry("other", persistent=False)]
    assert found(rows, *fleet) == [RosterChange(agent="new", kind="start"), RosterChange(agent="gone", kind="stop")]


@pytest.mark.parametrize(("wanted", "state"), [("stopped", "stopped"), ("running", "failed"), ("stopped", "idle")])
def test_who_does_not_run_is_left_as_it_is(wanted: str, state: str) -> None:
    assert found([row(wanted=wanted, state=state, model="m")], entry(model="n", persistent=True)) == []


def test_of_a_launch_by_an_older_version_nothing_is_claimed() -> None:
    assert found([Row(name="a")], entry(model="n")) == []
    assert found([Row(name="a")]) == [RosterChange(agent="a", kind="stop")]

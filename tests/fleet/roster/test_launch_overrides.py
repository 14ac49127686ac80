from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from core.secret_references import Reference
from fleet.roster.launch_overrides import FIELDS, Basis, LaunchChange, changes, described, overruled
from fleet.roster.schema import AgentEntry, RosterDefaults


@dataclass(frozen=True)
class Agent:
    role: str = "coder"
    runtime: str = "sim"
    model: str | None = "small"
    sandbox: str = "none"
    workspace: Path | str = "/w"


def entry(**words: object) -> AgentEntry:
    return AgentEntry.model_validate({"name": "coder0", **words})


def basis(*sources: AgentEntry | RosterDefaults, **said: str) -> Basis:
    return Basis(said=said, roster=described(*sources))


def test_an_agent_that_would_be_started_as_it_was_takes_nothing_up() -> None:
    same = basis(entry(model="small", env={"A": "1"}, prompt="p"))
    assert changes(Agent(), Agent(workspace=Path("/w")), same, same) == ()


def test_what_is_different_is_told_with_what_it_was() -> None:
    after = replace(Agent(), model=None, workspace=Path("/other"))
    assert changes(Agent(), after, None, basis()) == (
        LaunchChange("model", "small", None),
        LaunchChange("workspace", "/w", "/other"),
    )


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ({"env": {"A": "1"}}, {"env": {"A": "2"}}, ["env A"]),
        ({"env": {"A": "1"}}, {"env": {"B": "1"}}, ["env A", "env B"]),
        ({"env": {"A": "env:X"}}, {"env": {"A": "env:Y"}}, ["env A"]),
        ({"prompt": "Be brief."}, {}, ["prompt"]),
        ({"command": ["a"]}, {"command": ["a", "b"]}, ["command"]),
        ({"account": "a", "heartbeat": 5}, {"account": "b", "heartbeat": 9}, ["account", "heartbeat"]),
        ({"hosting": "tmux"}, {"hosting": "systemd", "tmux_socket": "a"}, ["hosting", "tmux_socket"]),
        ({"freshness": 60}, {"freshness": 90}, []),
    ],
)
def test_of_the_rest_it_is_told_that_it_changed(
    before: dict[str, object], after: dict[str, object], names: list[str]
) -> None:
    found = changes(Agent(), Agent(), basis(entry(**before)), basis(entry(**after)))
    assert [change.field for change in found] == names


def test_what_the_roster_says_is_kept_without_the_words_themselves() -> None:
    private = entry(
        env={"PLAIN": "a-private-word", "TOKEN": Reference("file", "/secret/place")}, prompt="a private prompt"
    )
    kept = json.dumps(basis(private).to_json())
    for word in ("a-private-word", "/secret/place", "private prompt"):
        assert word not in kept


def test_an_entry_goes_before_the_defaults_and_adds_to_their_environment() -> None:
    defaults = RosterDefaults.model_validate({"model": "small", "env": {"A": "1", "B": "1"}})
    filled = entry(model="large", env={"A": "1", "B": "2", "C": "3"})
    assert described(defaults, entry(model="large", env={"B": "2", "C": "3"})) == described(filled)


def test_what_a_launch_said_and_the_roster_says_otherwise_is_known() -> None:
    assert overruled(basis(entry(model="small", role="coder"), model="large", role="coder", sandbox="none")) == {
        "model": ("large", "small")
    }


def test_it_is_read_as_it_was_written_and_what_is_none_is_not_known() -> None:
    kept = basis(entry(env={"A": "1"}), model="large")
    assert Basis.from_json(json.loads(json.dumps(kept.to_json()))) == kept
    assert Basis.from_json(None) is None
    assert set(described(entry(role="coder", runtime="sim"))) <= set(FIELDS)

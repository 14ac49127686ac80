"""A patch makes of one fleet exactly the next one, or is not sent or not taken."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.read_models.codec import NotOnWire
from bot.read_models.documents import Document, ReadModel
from bot.read_models.fleet import FleetModel, GateClosure
from bot.read_models.health import HealthModel
from bot.read_models.patches import patch_of, patched
from tests.bot.interfaces.tui.scene import agent


def document(value: ReadModel | None, revision: int = 1, epoch: str = "e", name: str = "fleet") -> Document:
    return Document(name=name, revision=revision, epoch=epoch, made_at=float(revision), value=value)


def fleet(count: int) -> FleetModel:
    return FleetModel(agents=tuple(agent(f"coder{number}") for number in range(count)))


_AGENTS = st.builds(
    lambda name, queued, state: replace(agent(name), queued=queued, state=state),
    st.sampled_from([f"coder{number}" for number in range(6)]),
    st.integers(0, 2),
    st.sampled_from(["idle", "working"]),
)
_FLEETS = st.builds(
    FleetModel,
    agents=st.lists(_AGENTS, max_size=6, unique_by=lambda each: each.name).map(tuple),
    missing=st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple),
    estop=st.sampled_from([None, GateClosure(kind="estop", by="terminal:ana", at=5.0)]),
)


@given(old=_FLEETS, new=_FLEETS)
def test_a_patch_makes_the_next_fleet(old: FleetModel, new: FleetModel) -> None:
    known, wanted = document(old), document(new, 2)
    patch = patch_of(known, wanted)
    if patch is not None:
        assert patched(known, json.loads(json.dumps(patch))) == wanted


def test_only_rows_that_changed_are_sent_and_the_others_stay_the_same_objects() -> None:
    old = fleet(100)
    agents = [replace(each, queued=9) if each.name == "coder7" else each for each in old.agents]
    known, wanted = document(old), document(replace(old, agents=tuple(agents)), 2)
    patch = patch_of(known, wanted)
    assert patch is not None
    assert len(json.dumps(patch)) < 2_000, "about one row"
    value = patched(known, json.loads(json.dumps(patch))).value
    assert isinstance(value, FleetModel)
    changed = [new.name for new, before in zip(value.agents, old.agents, strict=True) if new is not before]
    assert changed == ["coder7"]


def test_the_whole_is_sent_where_a_patch_would_not_help() -> None:
    old = fleet(10)
    other = replace(old, agents=tuple(replace(each, queued=5) for each in old.agents))
    assert patch_of(None, document(old)) is None
    assert patch_of(document(old), document(other, 2)) is None, "most rows changed"
    assert patch_of(document(old), document(old, 2, epoch="f")) is None, "another process counts"
    assert patch_of(document(None), document(old, 2)) is None
    twice = replace(old, agents=(*old.agents, old.agents[0]))
    assert patch_of(document(old), document(twice, 2)) is None, "rows are told apart by their names"
    health = HealthModel(status="ok", version="1", started_at=0.0)
    assert patch_of(document(health, name="health"), document(health, 2, name="health")) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"base": 3},
        {"epoch": "f"},
        {"name": "health"},
        {"revision": 1},
        {"revision": True},
        {"revision": "2"},
        {"made_at": None},
        {"fields": []},
        {"fields": {"agents": []}},
        {"fields": {"missing": 7}},
        {"rows": None},
        {"rows": {"changed": [{"name": "x"}]}},
        {"rows": {"order": ["coder0", "nobody"]}},
        {"rows": {"order": ["coder0", "coder0"]}},
    ],
)
def test_what_is_no_patch_of_what_is_known_is_not_taken(wrong: dict[str, object]) -> None:
    known = document(fleet(3))
    patch = patch_of(known, document(replace(fleet(3), missing=("a",)), 2))
    assert patch is not None
    with pytest.raises(NotOnWire):
        patched(known, patch | wrong)
    with pytest.raises(NotOnWire):
        patched(None, patch)

"""Journals are read back as they were written, by older and by newer readers too."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.journal import events
from fleet.journal.events import Event, JournalEntry, JournalPosition, Unknown

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(st.text(), JSON, max_size=3)
HEAD = {"incarnation", "seq", "at", "kind"}
#: What a field of an event can hold, by its annotation.
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(),
    "str | None": st.none() | st.text(),
    "int": st.integers(),
    "bool": st.booleans(),
    "float": st.floats(allow_nan=False),
    "tuple[str, ...]": st.lists(st.text(), max_size=3).map(tuple),
    "Mapping[str, Any]": OBJECT,
    "tuple[Mapping[str, Any], ...]": st.lists(OBJECT, max_size=3).map(tuple),
    "tuple[Mapping[str, str], ...]": st.lists(st.dictionaries(st.text(), st.text(), max_size=3), max_size=3).map(tuple),
}
KINDS: list[Any] = [kind for kind in Event.__args__ if kind is not Unknown]
POSITIONS = st.builds(JournalPosition, st.integers(0), st.integers(1))
TIMES = st.floats(0, 1e11)


def events_of(kind: Any) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{field.name: FIELDS[str(field.type)] for field in dataclasses.fields(kind)})


ENTRIES = st.builds(JournalEntry, position=POSITIONS, at=TIMES, event=st.one_of(*map(events_of, KINDS)))


def through_json(entry: JournalEntry) -> JournalEntry:
    return JournalEntry.from_json(json.loads(json.dumps(entry.to_json())))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
@settings(max_examples=25)
@given(data=st.data())
def test_every_kind_of_event_is_read_back_as_it_was_written(kind: Any, data: st.DataObject) -> None:
    entry = JournalEntry(position=data.draw(POSITIONS), at=data.draw(TIMES), event=data.draw(events_of(kind)))
    assert through_json(entry) == entry


@given(POSITIONS, TIMES, st.text().filter(lambda kind: kind not in {k.KIND for k in KINDS}), OBJECT)
def test_a_kind_of_a_newer_agent_host_is_kept_whole(
    at: JournalPosition, when: float, kind: str, fields: dict[str, Any]
) -> None:
    fields = {key: value for key, value in fields.items() if key not in HEAD}
    source = {"incarnation": at.incarnation, "seq": at.seq, "at": when, "kind": kind, **fields}
    entry = JournalEntry.from_json(source)
    assert entry.event == Unknown(kind=kind, fields=fields)
    assert entry.to_json() == source


@given(ENTRIES)
def test_a_field_of_a_newer_agent_host_is_dropped(entry: JournalEntry) -> None:
    assert JournalEntry.from_json({**entry.to_json(), "of_the_future": [1]}) == entry


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
@settings(max_examples=25)
@given(data=st.data())
def test_a_field_that_an_older_agent_host_did_not_write_has_its_default(kind: Any, data: st.DataObject) -> None:
    source = JournalEntry(position=JournalPosition(1, 1), at=0.0, event=data.draw(events_of(kind))).to_json()
    for field in dataclasses.fields(kind):
        without = {key: value for key, value in source.items() if key != field.name}
        if field.default is not dataclasses.MISSING:
            assert getattr(JournalEntry.from_json(without).event, field.name) == field.default
        elif field.default_factory is not dataclasses.MISSING:
            assert getattr(JournalEntry.from_json(without).event, field.name) == field.default_factory()
        else:
            with pytest.raises(ValueError, match=field.name):
                JournalEntry.from_json(without)


def test_no_field_of_an_event_is_called_as_the_head_of_an_entry_is() -> None:
    assert not [kind for kind in KINDS if HEAD & {field.name for field in dataclasses.fields(kind)}]
    assert len({kind.KIND for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize(
    "line",
    [
        *("{}", "[]", "null", "7", '"opened"', '{"incarnation": 1, "seq": 1, "at": 0}'),
        '{"incarnation": "x", "seq": 1, "at": 0, "kind": "text"}',
        '{"incarnation": null, "seq": 1, "at": 0, "kind": "text"}',
        '{"incarnation": 1e999, "seq": 1, "at": 0, "kind": "text"}',
        '{"incarnation": 1, "seq": [1], "at": 0, "kind": "text"}',
        '{"incarnation": 1, "seq": 1, "at": {}, "kind": "text"}',
        '{"incarnation": 1, "seq": 1, "at": 0, "kind": "text"}',
    ],
)
def test_what_is_no_entry_is_refused_in_a_sentence(line: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        JournalEntry.from_json(json.loads(line))


def test_positions_stand_in_the_order_of_the_journal() -> None:
    assert sorted([JournalPosition(2, 1), JournalPosition(1, 9), JournalPosition(), JournalPosition(1, 10)]) == [
        *(JournalPosition(), JournalPosition(1, 9), JournalPosition(1, 10), JournalPosition(2, 1))
    ]


def test_a_shown_entry_names_its_kind() -> None:
    entry = JournalEntry(position=JournalPosition(3, 17), at=5.0, event=events.Closing(reason="asked to stop"))
    assert entry.to_json() == {"incarnation": 3, "seq": 17, "at": 5.0, "kind": "closing", "reason": "asked to stop"}

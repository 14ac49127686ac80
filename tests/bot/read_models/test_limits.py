"""Another process shows the same limits as the orchestrator."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hypothesis import given
from hypothesis import strategies as st

from bot.read_models.codec import from_wire, to_wire
from bot.read_models.limits import GovernedBy, LimitLine, LimitsModel, WindowPace


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a read model's type, with finite numbers."""
    if kind is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        fields = {each.name: values(hints[each.name]) for each in dataclasses.fields(kind)}
        return st.builds(kind, **fields)  # type: ignore[arg-type]
    inner = [values(each) for each in get_args(kind) if each is not Ellipsis] if get_origin(kind) is not Literal else []
    if get_origin(kind) is tuple:
        return st.lists(inner[0], max_size=2).map(tuple) if Ellipsis in get_args(kind) else st.tuples(*inner)
    if get_origin(kind) is Mapping:
        return st.dictionaries(*inner, max_size=2)
    return st.one_of(inner) if inner else st.from_type(kind)


@given(values(LimitsModel))
def test_limits_come_out_of_json_as_they_went_in(model: LimitsModel) -> None:
    again = from_wire(LimitsModel, json.loads(json.dumps(to_wire(model, str))))
    assert again == model
    assert again.at == model.at


def test_the_same_limits_at_another_time_are_equal() -> None:
    assert LimitsModel(at=1.0) == LimitsModel(at=2.0)


def test_a_limit_finds_its_pace_and_the_scope_that_governs_instead() -> None:
    line = LimitLine(scope="agent", agent=None, kind="allowance", limit=1.0, unit="tokens", policy="cutoff", pace="k")
    window = WindowPace(key="k", scope="agent:a", unit="tokens", limit=1.0, drawn_at=0.0)
    model = LimitsModel(at=0.0, lines=(line,), windows=(window,))
    assert model.pace_of(line) == window
    assert LimitsModel(at=0.0).pace_of(line) is None
    assert line.governing_scope is None
    some = GovernedBy(scope="agent:a", agents=("a",), everybody=False)
    every = GovernedBy(scope="profile:p", agents=("b",), everybody=True)
    overruled = LimitLine(
        scope="agent",
        agent=None,
        kind="allowance",
        limit=1.0,
        unit="tokens",
        policy="cutoff",
        governed_by=(some, every),
    )
    assert overruled.governing_scope == "profile:p"

"""A record's JSON is the same wherever it is made, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given

from forge.provenance.canonical import canonical
from forge.provenance.record import ProvenanceRecord, UnreadableRecord, bounded
from tests.forge.provenance.records import LARGEST, PLAIN, RECORDS


@given(RECORDS)
def test_a_record_is_read_back_from_its_json(record: ProvenanceRecord) -> None:
    written = canonical(record.as_json())
    again = ProvenanceRecord.from_json(json.loads(written))
    assert again == bounded(record)
    assert canonical(again.as_json()) == written


def test_the_json_has_no_floats_and_fits_a_note() -> None:
    def refuse(number: str) -> Any:
        raise AssertionError(number)

    written = canonical(PLAIN.as_json()).decode()
    json.loads(written, parse_float=refuse)
    assert '"cost_actual":"0.873"' in written
    assert '"started":"2026-01-02T03:04:05Z"' in written
    assert written.startswith('{"agent":"coder0","approvals":[{"by":"Ana"')
    assert len(canonical(LARGEST.as_json())) < 200_000


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2}, {"version": True}, {"turns": -1}, {"turns": "7"}, {"agent": None}, {"agent": ["x"]}, 
        {"more": 1},
        {"started": "2026-01-02T03:04:05"}, {"ending": "by itself"}, {"cost_actual": "NaN"}, {"routes": [{"host": 1}]},
    ],
)  # fmt: skip
def test_anything_else_is_no_record(change: dict[str, object]) -> None:
    with pytest.raises(UnreadableRecord):
        ProvenanceRecord.from_json({**PLAIN.as_json(), **change})


@pytest.mark.parametrize("value", [None, [], "x", 1, {}])
def test_other_json_is_no_record(value: object) -> None:
    with pytest.raises(UnreadableRecord, match="no record of version 1"):
        ProvenanceRecord.from_json(value)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        replace(PLAIN, started=datetime(2026, 1, 1))  # noqa: DTZ001


def test_floats_are_not_signed() -> None:
    with pytest.raises(ValueError, match="Write decimals as strings"):
        canonical({"a": [{"b": 0.5}]})  # type: ignore[dict-item]

"""A record in a note is bound to its commit, its key, and the audit; whatever differs is said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.signing.signing_key import SigningKey
from forge.provenance.canonical import canonical
from forge.provenance.notes import merged, note_line, read_line
from forge.provenance.record import ProvenanceRecord, UnreadableRecord
from forge.provenance.verification import AuditEvidence, named_digests, verify
from tests.forge.provenance.records import LARGEST, PLAIN, RECORDS

KEY, OTHER = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
ONE, TWO = "1" * 40, "2" * 40
LINE = note_line(PLAIN, ONE, KEY)
EVIDENCE = AuditEvidence(digests={PLAIN.audit or ""})


def faults(note: str, *, commit: str = ONE, audit: AuditEvidence | None = None) -> list[str]:
    (found,) = verify({commit: note}, [commit], {KEY.public}, audit)
    return [each.code for each in found.faults]


@given(RECORDS)
def test_a_signed_record_is_what_was_signed(record: ProvenanceRecord) -> None:
    signed = read_line(note_line(record, ONE, KEY))
    assert signed.is_valid
    assert signed.record.as_json() == record.as_json()
    assert faults(note_line(record, ONE, KEY)) == []


def test_the_same_record_makes_the_same_line() -> None:
    assert note_line(PLAIN, ONE, KEY) == LINE
    assert "\n" not in LINE
    assert read_line(note_line(LARGEST, ONE, KEY)).is_valid


def test_what_matches_is_listed() -> None:
    (found,) = verify({ONE: LINE}, [ONE], {KEY.public}, EVIDENCE)
    assert (found.faults, found.notices) == ((), ())
    assert [each.record for each in found.records] == [PLAIN]


def test_every_altered_field_is_found() -> None:
    value = json.loads(LINE)
    other: Any
    for name, was in value["record"].items():
        if name == "version":
            continue
        other = {
            int: 5, list: [], str: "2026-01-02T03:04:06Z" if name == "started" else "9.5", type(None): None,
            dict: None,
        }[type(was)]  # fmt: skip
        other = {"secret_scan": "found", "ending": "watchdog"}.get(name, other)
        if other != was:
            altered = canonical({**value, "record": {**value["record"], name: other}}).decode()
            assert faults(altered) == ["record_altered"], name


def test_a_record_of_another_commit_is_found() -> None:
    assert faults(LINE, commit=TWO) == ["commit_differs"]
    value = json.loads(LINE)
    assert faults(canonical({**value, "commit": TWO}).decode(), commit=TWO) == ["record_altered"]


def test_a_record_of_another_key_is_found() -> None:
    assert faults(note_line(PLAIN, ONE, OTHER)) == ["key_unknown"]
    value = json.loads(LINE)
    assert faults(canonical({**value, "key": OTHER.public}).decode()) == ["record_altered"]


def test_a_commit_without_a_record_is_found() -> None:
    assert faults("") == ["note_missing"]
    (found,) = verify({}, [ONE], {KEY.public})
    assert [each.code for each in found.faults] == ["note_missing"]


def test_a_forged_line_beside_a_good_one_is_found() -> None:
    (found,) = verify({ONE: merged(LINE, note_line(PLAIN, ONE, OTHER))}, [ONE], {KEY.public})
    assert [each.code for each in found.faults] == ["key_unknown"]
    assert [each.key for each in found.records] == [KEY.public]


def test_several_runs_on_a_commit_are_said() -> None:
    second = note_line(replace(PLAIN, run="run-2", started=PLAIN.started.replace(year=2025)), ONE, KEY)
    (found,) = verify({ONE: merged(LINE, second)}, [ONE], {KEY.public}, EVIDENCE)
    assert found.faults == ()
    assert found.notices == ("It has 2 records: several runs worked on it.",)
    assert [each.record.run for each in found.records] == ["run-2", "run-1"]


def test_the_audit_must_have_the_line_that_a_record_names() -> None:
    assert faults(LINE, audit=AuditEvidence(digests=set())) == ["audit_missing"]
    assert faults(LINE, audit=AuditEvidence(digests=EVIDENCE.digests, faults=1)) == ["audit_altered"]
    later = AuditEvidence(digests=set(), begins_at=PLAIN.started.timestamp() + 1)
    (found,) = verify({ONE: LINE}, [ONE], {KEY.public}, later)
    assert (found.faults, len(found.notices)) == ((), 1)
    assert named_digests({ONE: f"{LINE}\nx"}) == {PLAIN.audit}
    silent = note_line(replace(PLAIN, audit=None), ONE, KEY)
    (found,) = verify({ONE: silent}, [ONE], {KEY.public}, EVIDENCE)
    assert found.notices == ("A record names no line of the audit log.",)


@pytest.mark.parametrize(
    "line",
    [
        "x", "[]", "{}", "1", '{"version":1}', "[" * 100_000, "x" * 500_000,
        LINE.replace('"version":1}', '"version":2}'),
        LINE.replace('{"commit"', '{"commit":"x","commit"'), LINE.replace(f'"{ONE}"', "1"),
        LINE.replace('"turns":7', '"turns":7.0'), LINE.replace('"turns":7', '"turns":NaN'),
        LINE.replace('"turns":7', '"turns":7,"turns":8'), LINE.replace('"agent":"coder0"', '"agent":null'),
    ],
)  # fmt: skip
def test_hostile_lines_are_unreadable(line: str) -> None:
    assert faults(line) == ["note_unreadable"]
    with pytest.raises(UnreadableRecord):
        read_line(line)


@given(st.text(max_size=300))
def test_any_note_is_read(note: str) -> None:
    assert set(faults(note)) <= {"note_missing", "note_unreadable"}


def test_a_note_of_many_lines_is_bounded() -> None:
    assert "note_unreadable" in faults("\n".join(f"{number}" for number in range(5_000)))


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=4).map("\n".join), max_size=4))
def test_notes_are_merged_in_any_order(notes: list[str]) -> None:
    assert merged(*notes) == merged(*reversed(notes)) == merged(merged(*notes))
    assert set(merged(*notes).split()) == set(" ".join(notes).split())

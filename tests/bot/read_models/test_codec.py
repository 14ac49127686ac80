"""Another process shows what the orchestrator shows: a value comes out of JSON as it went in, without secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.read_models.codec import NotOnWire, from_wire, to_wire
from bot.read_models.codec import masked as masked_value
from bot.read_models.provenance import Provenance
from bot.read_models.waiting import AnswerChoice, PendingRequest, WaitingModel
from core.redaction import SecretMasker

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    text: str
    kind: Literal["said"] = "said"


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    title: str | None
    kind: Literal["used"] = "used"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """All forms that a read model may have."""

    name: str
    state: Literal["idle", "working"]
    count: int
    share: float
    is_up: bool
    seen: Provenance
    since: float | None = None
    limit: int | str | None = None
    pair: tuple[str, int] = ("", 0)
    items: tuple[Said | Used, ...] = ()
    accounts: Mapping[str, str] | None = None


SHOWN = st.builds(
    Shown,
    share=NUMBERS,
    since=st.none() | NUMBERS,
    seen=st.builds(Provenance, source=st.sampled_from(("protocol", "none")), at=st.none() | NUMBERS),
)
PLAIN = Shown(name="coder0", state="idle", count=1, share=0.5, is_up=True, seen=Provenance())


def sent(value: object) -> object:
    return json.loads(json.dumps(to_wire(value, str), allow_nan=False))


@given(SHOWN)
def test_a_value_is_the_same_on_the_other_side(value: Shown) -> None:
    assert from_wire(Shown, sent(value)) == value


def test_an_older_reader_and_an_older_writer_are_understood() -> None:
    raw = sent(PLAIN)
    assert isinstance(raw, dict)
    assert from_wire(Shown, raw | {"of_a_later_version": 1}) == PLAIN
    assert from_wire(Shown, {key: raw[key] for key in raw if key not in ("since", "items")}) == PLAIN


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"count": "1"}, "Shown.count"),
        ({"count": True}, "Shown.count"),
        ({"share": None}, "Shown.share"),
        ({"state": "asleep"}, "Shown.state"),
        ({"seen": {"source": "rumour"}}, "Shown.seen.source"),
        ({"items": [{"kind": "said", "text": "a"}, {"kind": "said"}]}, r"Shown.items\[1\]"),
        ({"items": [{"kind": "sung", "text": "a"}]}, r"Shown.items\[0\]"),
        ({"pair": ["a"]}, "Shown.pair"),
        ({"accounts": {"anthropic": 1}}, "Shown.accounts.anthropic"),
    ],
)
def test_the_place_of_a_mistake_is_named(wrong: Mapping[str, object], place: str) -> None:
    raw = sent(PLAIN)
    assert isinstance(raw, dict)
    with pytest.raises(NotOnWire, match=f"^{place}: "):
        from_wire(Shown, {**raw, **wrong})
    with pytest.raises(NotOnWire, match=r"^Shown: .*'name'"):
        from_wire(Shown, {key: raw[key] for key in raw if key != "name"})


@pytest.mark.parametrize("value", [float("inf"), float("nan"), {1: "a"}, {"a"}, b"a", [1], Provenance])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(NotOnWire, match="has no form in JSON"):
        to_wire((value,), str)


def test_no_secret_leaves_in_any_text() -> None:
    key = "sk-of the account/1234"
    redact = SecretMasker(known=frozenset({key}))
    told = Shown(
        name=key, state="idle", count=1, share=0.5, is_up=True, seen=Provenance(), limit=key, pair=(key, 1),
        items=(Said(text=f"it is {key}"), Used(title=key)), accounts={key: key},
    )  # fmt: skip
    wire = json.dumps(to_wire(told, redact))
    assert "account/1234" not in wire
    assert wire.count("[redacted]") == 7


def test_masking_keeps_all_but_secrets_and_rebuilds_nothing_without_one() -> None:
    waiting = WaitingModel(
        requests=(
            PendingRequest(
                id="1f2e",
                agent="coder0",
                title="curl",
                detail="curl -H key-4711",
                choices=(
                    AnswerChoice(
                        word="all", mark="m", label="Allow", command="approve", arguments={"id": "1f2e", "all": True}
                    ),
                ),
                asked_at=1.0,
                expires_at=2.0,
            ),
        )
    )
    assert masked_value(waiting, str) is waiting
    masked = masked_value(waiting, lambda text: text.replace("key-4711", "***"))
    assert masked.requests[0].detail == "curl -H ***"
    assert to_wire(masked, str) == to_wire(waiting, lambda text: text.replace("key-4711", "***"))

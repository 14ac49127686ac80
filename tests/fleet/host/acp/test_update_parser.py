from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.host.acp.update_parser import (
    PERMISSION_CHARACTERS,
    KnownToolCall,
    clean,
    events_of,
    permission_of,
    quoted,
    usage_fields,
)
from fleet.journal.events import (
    JournalEntry,
    JournalPosition,
    PlanUpdated,
    TextChunk,
    ThoughtChunk,
    ToolCall,
    UsageReported,
)

OPTIONS = [
    {"optionId": "a", "name": "Always", "kind": "allow_always"},
    {"optionId": "o", "name": "Once", "kind": "allow_once"},
    {"optionId": "n", "name": "No", "kind": "reject_once"},
]


def block(text: Any) -> dict[str, Any]:
    return {"type": "text", "text": text}


def call(**fields: Any) -> KnownToolCall:
    return KnownToolCall(call="c").with_update(fields)


def test_updates_become_events() -> None:
    assert events_of({"sessionUpdate": "agent_message_chunk", "content": block("x")}, "t") == [
        TextChunk(turn="t", text="x")
    ]
    assert events_of({"sessionUpdate": "agent_thought_chunk", "content": block("x")}, None) == [
        ThoughtChunk(turn=None, text="x")
    ]
    assert events_of({"sessionUpdate": "plan", "entries": [{"content": "a", "status": "pending", "x": 1}, 5]}, "t") == [
        PlanUpdated(turn="t", entries=({"content": "a", "priority": None, "status": "pending"},))
    ]
    started = {"sessionUpdate": "tool_call", "toolCallId": "c", "title": "ls", "rawInput": {"command": "ls -l"}}
    assert events_of(started, "t") == [ToolCall(turn="t", call="c", title="ls", detail="ls -l")]
    changed = {"sessionUpdate": "tool_call_update", "toolCallId": "c", "status": "completed"}
    assert events_of(changed, "t") == [ToolCall(turn="t", call="c", status="completed")]
    assert events_of({"sessionUpdate": "usage_update", "used": 5, "size": 9}, "t") == [
        UsageReported(turn="t", fields={"used": 5, "size": 9})
    ]


@pytest.mark.parametrize(
    "kind", ["available_commands_update", "current_mode_update", "user_message_chunk", "new", None]
)
def test_what_says_nothing_of_the_work_is_left_out(kind: str | None) -> None:
    assert events_of({"sessionUpdate": kind, "content": block("x")}, "t") == []


def test_long_texts_are_split_and_nothing_of_them_is_lost() -> None:
    text = "x" * 1_500_000
    parts = events_of({"sessionUpdate": "agent_message_chunk", "content": block(text)}, "t")
    assert len(parts) > 1
    assert "".join(part.text for part in parts if isinstance(part, TextChunk)) == text


def test_lone_surrogates_are_replaced_and_pairs_kept() -> None:
    assert clean("a\ud800b") == "a\ufffdb"
    assert clean("\U0001f600") == "\U0001f600"
    assert clean("a\ud83d\ude00b\udc00") == "a\U0001f600b\ufffd"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
_fields = [
    "toolCallId",
    "title",
    "kind",
    "status",
    "rawInput",
    "content",
    "locations",
    "entries",
    "used",
    "text",
    "cost",
]
_kinds = ["agent_message_chunk", "agent_thought_chunk", "tool_call", "tool_call_update", "plan", "usage_update"]


@settings(database=None)
@given(st.sampled_from(_kinds), st.dictionaries(st.sampled_from(_fields), _json), _json)
def test_nonsense_never_raises_and_what_comes_of_it_can_be_written(kind: str, fields: dict[str, Any], odd: Any) -> None:
    for event in events_of({**fields, "sessionUpdate": kind}, "t"):
        json.dumps(JournalEntry(position=JournalPosition(1, 1), at=0.0, event=event).to_json())
    permission_of(KnownToolCall(call="c").with_update(fields), odd)
    request = permission_of(KnownToolCall(call="c").with_update(fields), OPTIONS)
    assert request is not None
    json.dumps(request.detail)


def test_usage_keeps_numbers_only() -> None:
    assert usage_fields({"a": 1, "b": "x", "c": True, "cost": {"amount": 0.5, "currency": "USD"}, "d": None}) == {
        "a": 1,
        "cost": {"amount": 0.5, "currency": "USD"},
    }
    assert usage_fields("x") == {}


# --- permission requests ------------------------------------------------------------------------------------------


def test_a_request_shows_the_whole_command_and_everything_beside_it() -> None:
    command = "echo " + "x" * 100_000
    request = permission_of(call(title="Bash", rawInput={"command": command, "cwd": "/etc"}), OPTIONS)
    assert request is not None
    assert request.detail.startswith(command)
    assert '"cwd": "/etc"' in request.detail
    assert [option["id"] for option in request.options] == ["a", "o", "n"]
    assert request.option_of("allow_once", "allow_always") == "o"


def test_a_command_given_as_words_is_shown_as_words_where_that_is_plain() -> None:
    plain = permission_of(call(rawInput={"command": ["git", "push"]}), OPTIONS)
    assert plain is not None
    assert plain.detail == "git push"
    tricky = permission_of(call(rawInput={"command": ["sh", "-c", "a b"]}), OPTIONS)
    assert tricky is not None
    assert json.loads(tricky.detail) == {"command": ["sh", "-c", "a b"]}


def test_a_message_that_stands_for_the_command_is_shown_as_it_is() -> None:
    asked = {"method": "confirm", "title": "bash", "message": 'printf "a\\n"\nrm -rf /'}
    request = permission_of(call(title="bash", rawInput=asked), OPTIONS)
    assert request is not None
    assert request.detail.startswith('printf "a\\n"\nrm -rf /\n{')
    assert '"title": "bash"' in request.detail


def test_an_edit_without_input_shows_its_content() -> None:
    diff = [{"type": "diff", "path": "/a", "oldText": "x", "newText": "y"}]
    request = permission_of(call(title="Edit", content=diff), OPTIONS)
    assert request is not None
    assert '"newText": "y"' in request.detail


def test_what_cannot_be_shown_whole_is_not_asked() -> None:
    assert permission_of(call(rawInput={"command": "x" * (PERMISSION_CHARACTERS + 1)}), OPTIONS) is None


@pytest.mark.parametrize("options", [None, [], "x", [{}], [{"optionId": 5}]])
def test_what_offers_no_choice_is_not_asked(options: Any) -> None:
    assert permission_of(call(title="x"), options) is None


def test_the_digest_is_bound_to_all_that_would_be_done() -> None:
    base: dict[str, Any] = {"title": "Edit", "kind": "edit", "rawInput": {"a": 1, "b": 2}, "content": [1]}

    def digest(options: Any = OPTIONS, **changes: Any) -> str:
        request = permission_of(call(**{**base, **changes}), options)
        assert request is not None
        return request.digest

    assert digest() == digest(rawInput={"b": 2, "a": 1})
    assert digest() == digest([{**option, "optionId": f"other-{option['optionId']}"} for option in OPTIONS])
    different = [digest(), digest(title="x"), digest(kind="x"), digest(rawInput={"a": 1}), digest(content=[2])]
    different += [digest(locations=[{"path": "/a"}]), digest(OPTIONS[1:])]
    assert len(set(different)) == len(different)


def test_what_an_earlier_update_said_of_the_call_counts() -> None:
    earlier = call(title="Bash", kind="execute", rawInput={"command": "rm"})
    request = permission_of(earlier.with_update({"toolCallId": "c"}), OPTIONS)
    assert request is not None
    assert (request.title, request.detail) == ("Bash", "rm")


def test_an_option_that_could_mean_two_things_is_none() -> None:
    options = [
        {"optionId": "a", "name": "Yes", "kind": "allow_once"},
        {"optionId": "b", "name": "No", "kind": "reject_once"},
        {"optionId": "a", "name": "No", "kind": "reject_once"},
        {"optionId": "c", "name": "Yes", "kind": "allow_everything"},
        {"optionId": "d", "name": "Yes", "kind": "allow_once"},
        {"optionId": "d", "name": "Surely", "kind": "allow_once"},
    ]
    request = permission_of(call(title="x"), options)
    assert request is not None
    assert [(each["id"], each["kind"]) for each in request.options] == [("b", "reject_once"), ("d", "allow_once")]
    assert permission_of(call(title="x"), [options[0], options[2], options[3]]) is None


@given(st.text())
def test_a_runtimes_words_stay_on_one_line_in_their_quotes(words: str) -> None:
    quote = quoted(words)
    fence = quote[: len(quote) - len(quote.lstrip("`"))]
    assert quote.endswith(fence)
    assert "\n" not in quote
    assert fence not in quote[len(fence) : -len(fence)].strip("` ").replace("`" * (len(fence) + 1), "")


def test_long_words_of_a_runtime_are_cut() -> None:
    assert len(quoted("x" * 10_000, 100)) < 110

"""What requests want, what is refused of them, and what is changed on their way."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget.limits.input_bound import Contents
from egress.http import request_body_policy
from egress.http.request_body_policy import read, rewrite
from egress.http.unmetered_costs import MOST_SEARCHES, RequestNotAllowed
from egress.provider_endpoints import Api

APIS = get_args(Api)
MESSAGES = [{"role": "user", "content": "grüß dich 🙂"}]
BOUND = {"anthropic": "max_tokens", "responses": "max_output_tokens", "chat": "max_completion_tokens"}


def body(**members: Any) -> bytes:
    return json.dumps({"model": "m", "messages": MESSAGES, **members}, ensure_ascii=False).encode()


def refused(api: Api, **members: Any) -> RequestNotAllowed:
    with pytest.raises(RequestNotAllowed) as caught:
        read(api, body(**members))
    return caught.value


def test_a_request_is_read() -> None:
    found = read("anthropic", body(max_tokens=32_000, stream=True))
    assert (found.model, found.max_tokens, found.stream, found.choices) == ("m", 32_000, True, 1)
    found = read("chat", body(stream=True, stream_options={"include_usage": True}, n=4, max_tokens=10))
    assert (found.include_usage, found.max_tokens, found.choices) == (True, 40, 4)
    found = read("responses", b" \n{} \t")
    assert (found.model, found.max_tokens, found.stream) == (None, None, False)


def test_a_name_is_known_however_it_is_spelled() -> None:
    found = read("anthropic", rb'{"\u006dodel":"\u006d", "max_\u0074okens": 7}')
    assert (found.model, found.max_tokens) == ("m", 7)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'"model"', "not a JSON object"),
        (b"\xef\xbb\xbf{}", "not a JSON object"),
        ('{"model":"m"}'.encode("utf-16"), "not UTF-8"),
        (b'{"model":"\xff"}', "not UTF-8: invalid start byte at byte 10"),
        (b'{"model":"\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a":1', "a comma or the end of the object"),
        (b'{"a":1,}', "name in double quotes"),
        (b"{a:1}", "name in double quotes"),
        (b'{"a" 1}', "a colon"),
        (b'{"a":}', "Expecting value"),
        (b'{"a":1}{"a":1}', "nothing is expected after"),
        (b'{"a":NaN}', "NaN is no number"),
        (b'{"a":[1,-Infinity]}', "-Infinity is no number"),
        (b'{"a":01}', "a comma or the end"),
        (b'{"a":"\n"}', "control character"),
        (b'{"a":"\\x"}', "escape"),
        (b'{"a":' + b"9" * 5_000 + b"}", "digits"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a":1,"a":1}', "is there twice"),
        (b'{"max_tokens":1,"max_\\u0074okens":100000}', "is there twice"),
        (b'{"tools":[{"type":"custom","type":"web_search_20250305"}]}', "is in an object twice"),
        (b'{"Max_Tokens":100000}', "'Max_Tokens' may be taken for another"),
        (b'{"\\u017ftream":true}', "may be taken for another"),
        (b'{"max_to\\u212aens":100000}', "may be taken for another"),
        (b'{"max_tokens\\u0000":100000}', "may be taken for another"),
        (b'{"tools":[{"type":"custom","Type":"code_execution_20250825"}]}', "'Type' may be taken for another"),
        (b'{"model":1}', "model: a name"),
        (b'{"model":"a\\nb"}', "model: a name"),
        (b'{"stream":"true"}', "stream: true or false"),
        (b'{"stream":1}', "stream: true or false"),
        (b'{"max_tokens":"1"}', "max_tokens: a whole number"),
        (b'{"max_tokens":1e3}', "max_tokens: a whole number"),
        (b'{"max_tokens":true}', "max_tokens: a whole number"),
        (b'{"max_tokens":0}', "max_tokens: a whole number"),
        (b'{"thinking":[]}', "thinking: an object"),
        (b'{"tools":{}}', "tools: a list of objects"),
        (b'{"tools":["web_search"]}', "tools: a list of objects"),
    ],
)
def test_what_two_readers_could_take_for_two_things_is_refused(source: bytes, complaint: str) -> None:
    with pytest.raises(RequestNotAllowed, match=complaint) as caught:
        read("anthropic", source)
    assert caught.value.status == 400


def test_a_body_that_would_fill_the_memory_is_not_parsed() -> None:
    with pytest.raises(RequestNotAllowed, match="values") as caught:
        read("anthropic", b'{"messages":[' + b"[]," * 600_000 + b"[]]}")
    assert caught.value.status == 413
    picture = b'{"model":"m","messages":["' + b"x" * 3_000_000 + b'"]}'
    assert read("anthropic", picture).model == "m"


@pytest.mark.parametrize(
    ("api", "members"),
    [
        ("responses", {"background": True}),
        ("responses", {"prompt": {"id": "pmpt_1"}}),
        ("responses", {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}),
        ("responses", {"tools": [{"type": "mcp", "server_url": "https://example.org"}]}),
        ("responses", {"tools": [{"type": "file_search"}]}),
        ("responses", {"tools": [{"type": "image_generation"}]}),
        ("responses", {"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}),
        ("responses", {"tools": [{"type": "namespace", "name": "x", "tools": [{"type": "mcp"}]}]}),
        ("responses", {"input": [{"type": "additional_tools", "tools": [{"type": "mcp"}]}]}),
        ("responses", {"tools": [{"type": "what will they think of next"}]}),
        ("responses", {"tools": [{}]}),
        ("responses", {"service_tier": "priority"}),
        ("chat", {"web_search_options": {}}),
        ("chat", {"service_tier": "priority"}),
        ("chat", {"tools": [{"type": "web_search"}]}),
        ("anthropic", {"fallbacks": [{"model": "other"}]}),
        ("anthropic", {"fallbacks": "default"}),
        ("anthropic", {"mcp_servers": [{"url": "https://example.org"}]}),
        ("anthropic", {"container": {"skills": []}}),
        ("anthropic", {"speed": "fast"}),
        ("anthropic", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("anthropic", {"tools": [{"type": "web_search_20250305", "max_uses": 11}]}),
        ("anthropic", {"tools": [{"type": "web_search_20250305", "max_uses": True}]}),
        ("anthropic", {"tools": [{"type": "web_fetch_20250910", "max_uses": 1}]}),
        ("anthropic", {"tools": [{"type": "code_execution_20250825"}]}),
        ("anthropic", {"tools": [{"type": "advisor_20260301", "model": "claude-opus-4-5"}]}),
        ("anthropic", {"tools": [{"type": "mcp_toolset"}]}),
        ("anthropic", {"tools": [{"type": 7}]}),
    ],
)
def test_what_cannot_be_metered_is_refused_with_the_way_out(api: Api, members: Mapping[str, Any]) -> None:
    refusal = refused(api, **members)
    assert refusal.status == 403
    assert "eave it out" in str(refusal) or "Send its text" in str(refusal)


@pytest.mark.parametrize(
    ("api", "members"),
    [
        ("anthropic", {"tools": [{"type": "code_execution_20250825"}], "mcp_servers": [{"url": "https://x"}]}),
        ("responses", {"tools": [{"type": "mcp"}, {"type": "web_search"}]}),
        ("chat", {"web_search_options": {}}),
    ],
)
def test_an_account_may_allow_tools_that_the_provider_runs(api: Api, members: Mapping[str, Any]) -> None:
    found = read(api, body(**members), server_tools=True)
    assert rewrite(body(**members), found, None, False) == body(**members)


def test_an_account_may_allow_other_prices() -> None:
    assert read("responses", body(service_tier="priority"), premium=True)
    assert read("anthropic", body(speed="fast"), premium=True)


@pytest.mark.parametrize(
    ("api", "members"),
    [
        # As Claude Code sends them.
        ("anthropic", {"tools": [{"name": "Bash", "input_schema": {}}, {"type": "custom", "name": "x"}]}),
        ("anthropic", {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}]}),
        ("anthropic", {"tools": [{"type": "text_editor_20250728"}, {"type": "tool_search_tool_regex_20251119"}]}),
        ("anthropic", {"service_tier": "auto", "thinking": {"type": "adaptive"}, "container": None, "speed": None}),
        # As Codex does.
        ("responses", {"tools": [{"type": "function"}, {"type": "custom"}, {"type": "local_shell"}], "store": False}),
        ("responses", {"tools": [{"type": "namespace", "tools": [{"type": "function"}]}], "background": False}),
        ("responses", {"input": "hi", "service_tier": "flex", "tools": None}),
        ("chat", {"tools": [{"type": "function", "function": {}}], "service_tier": None, "n": None, "stream": None}),
    ],
)
def test_what_runtimes_send_passes_as_it_is(api: Api, members: Mapping[str, Any]) -> None:
    source = body(**members)
    assert rewrite(source, read(api, source), None, False) is source


def test_codexs_web_search_is_bounded_on_its_way() -> None:
    search = {"type": "web_search", "external_web_access": False}
    source = body(tools=[{"type": "function"}, search])
    assert json.loads(rewrite(source, read("responses", source), None, False)) == {
        **json.loads(source),
        "max_tool_calls": 10,
    }
    source = body(tools=[search], max_tool_calls=100)
    assert json.loads(rewrite(source, read("responses", source), None, False))["max_tool_calls"] == 10
    source = body(tools=[search], max_tool_calls=3)
    assert rewrite(source, read("responses", source), None, False) is source


@pytest.mark.parametrize("api", APIS)
def test_a_lower_bound_takes_the_place_of_the_requests_own(api: Api) -> None:
    source = body(**{BOUND[api]: 32_000})
    expected = source.replace(b"32000", b"500")
    assert rewrite(source, read(api, source), 500, False) == expected
    assert rewrite(source, read(api, source), 32_000, False) is source


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("empty", [True, False])
def test_a_bound_is_put_in_where_none_was(api: Api, empty: bool) -> None:
    source = b" { }" if empty else body()
    found = rewrite(source, read(api, source), 500, False)
    assert json.loads(found) == {BOUND[api]: 500, **json.loads(source)}
    source = body(**{BOUND[api]: None})
    assert json.loads(rewrite(source, read(api, source), 500, False))[BOUND[api]] == 500


def test_chats_bound_stays_where_it_stands_and_is_shared_by_its_choices() -> None:
    source = body(max_tokens=900, n=3)
    assert rewrite(source, read("chat", source), 300, False) == source.replace(b"900", b"100")
    both = body(max_tokens=900, max_completion_tokens=800)
    found = json.loads(rewrite(both, read("chat", both), 300, False))
    assert (found["max_tokens"], found["max_completion_tokens"]) == (300, 300)


@pytest.mark.parametrize("options", [None, {}, {"include_obfuscation": False}, {"include_usage": False}])
def test_a_chat_stream_is_made_to_tell_its_usage(options: dict[str, Any] | None) -> None:
    source = body(stream=True, stream_options=options)
    found = json.loads(rewrite(source, read("chat", source), None, True))
    assert found == {**json.loads(source), "stream_options": {**(options or {}), "include_usage": True}}


@pytest.mark.parametrize("api", APIS)
def test_what_is_no_chat_stream_or_asks_itself_is_left_alone(api: Api) -> None:
    asks = {"stream": True, "stream_options": {"include_usage": True}}
    for members in ({"stream": api != "chat"}, asks):
        source = body(**members)
        assert rewrite(source, read(api, source), None, True) is source


def test_thinking_stays_below_the_bound() -> None:
    source = body(max_tokens=32_000, thinking={"type": "enabled", "budget_tokens": 31_999, "display": "omitted"})
    found = json.loads(rewrite(source, read("anthropic", source), 4_000, False))
    assert found["max_tokens"] == 4_000
    assert found["thinking"] == {"type": "enabled", "budget_tokens": 3_000, "display": "omitted"}
    assert json.loads(rewrite(source, read("anthropic", source), 1_025, False))["thinking"]["budget_tokens"] == 1_024
    with pytest.raises(RequestNotAllowed, match="thinking needs more") as caught:
        rewrite(source, read("anthropic", source), 1_024, False)
    assert caught.value.status == 403
    small = body(max_tokens=32_000, thinking={"type": "enabled", "budget_tokens": 2_000})
    assert json.loads(rewrite(small, read("anthropic", small), 4_000, False))["thinking"]["budget_tokens"] == 2_000


@pytest.mark.parametrize(("api", "left"), [("anthropic", 0), ("responses", 15), ("chat", 0), ("anthropic", -5)])
def test_a_bound_that_no_provider_takes_is_a_refusal(api: Api, left: int) -> None:
    with pytest.raises(RequestNotAllowed, match="tokens of output are left") as caught:
        rewrite(body(), read(api, body()), left, False)
    assert caught.value.status == 403


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.text(max_size=8).filter(
    lambda key: key.isprintable() and key.casefold() not in request_body_policy.READ_FIELDS
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(APIS),
    st.dictionaries(WORDS, JSON, max_size=5),
    st.none() | st.integers(min_value=1, max_value=10**6),
    st.integers(min_value=16, max_value=10**6),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_nothing_but_what_must_is_changed(
    api: Api, others: dict[str, Any], own: int | None, bound: int, indent: Any, ascii_only: bool, dice: Any
) -> None:
    members = [*others.items(), ("stream", True), *([(BOUND[api], own)] if own else [])]
    dice.shuffle(members)
    text = json.dumps(dict(members), indent=indent, ensure_ascii=ascii_only)
    source = text.encode("utf-8", "surrogatepass")
    try:
        source.decode()
    except UnicodeDecodeError:
        return
    found = rewrite(source, read(api, source), bound, True)
    expected = {**dict(members), BOUND[api]: min(own or bound, bound)}
    if api == "chat":
        expected["stream_options"] = {"include_usage": True}
    assert json.loads(found) == expected
    # Every byte of the others is where it was: what was put in is put in at one place, or in place of the old bound.
    for edit in request_body_policy.edits(read(api, source), bound, True):
        assert source[edit.start : edit.end] in (str(own).encode(), b"")
    if own and own <= bound and api != "chat":
        assert found is source


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(APIS), st.binary(max_size=60) | JSON.map(lambda found: json.dumps(found).encode()))
def test_a_body_is_read_or_refused_and_nothing_else(api: Api, source: bytes) -> None:
    with contextlib.suppress(RequestNotAllowed):
        read(api, source)
        assert isinstance(json.loads(source), dict)


# --- what the bytes of a body do not bound ----------------------------------------------------------------------------


def contents(api: Api, **members: Any) -> Contents:
    return read(api, body(**members), server_tools=True).contents


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def test_a_plain_request_is_bounded_by_its_bytes() -> None:
    assert contents("anthropic", max_tokens=1) == Contents(caches=False)
    assert contents("chat") == contents("responses", input="hello") == Contents()


def test_pictures_are_counted_wherever_they_stand() -> None:
    picture = {"type": "image", "source": {"type": "base64", "data": "aaaa"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [picture, picture]}
    assert contents("anthropic", **user(picture, result)).pictures == 3
    assert contents("chat", **user({"type": "image_url", "image_url": {"url": "https://a/b.png"}})).pictures == 1
    assert contents("responses", input=[{"role": "user", "content": [{"type": "input_image"}]}]).pictures == 1
    # Who reads the last of two members of one name is not deceived, nor who reads the first.
    for pair in (b'"type":"text","type":"image"', b'"type":"image","type":"text"', b'"t\\u0079pe":"im\\u0061ge"'):
        found = read("anthropic", b'{"messages":[{"content":[{%s}]}]}' % pair)
        assert found.contents.pictures == 1


@pytest.mark.parametrize(
    ("api", "members"),
    [
        ("anthropic", user({"type": "document", "source": {"type": "file", "file_id": "file_1"}})),
        ("chat", user({"type": "file", "file": {"file_id": "file_1"}})),
        ("responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}),
        ("responses", {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://a/b"}]}]}),
        ("responses", {"input": "hello", "conversation": "conv_1"}),
    ],
)
def test_what_is_referred_to_is_hidden(api: Api, members: dict[str, Any]) -> None:
    assert contents(api, **members).hidden


def test_reasoning_that_is_sent_along_is_not_hidden() -> None:
    assert not contents("responses", input=[{"type": "reasoning", "encrypted_content": "gAAA"}]).hidden


def test_the_response_that_a_request_goes_on_from_is_known_by_its_id() -> None:
    assert contents("responses", input="go on", previous_response_id="resp_1").previous == "resp_1"


def test_tools_that_the_provider_describes_or_runs_are_told_apart() -> None:
    plain = contents("anthropic", tools=[{"name": "read", "input_schema": {}}])
    assert (plain.added, plain.own_tools, plain.rereads) == (True, 0, False)
    bash = contents("anthropic", tools=[{"type": "bash_20250124", "name": "bash"}])
    assert (bash.own_tools, bash.rereads) == (1, False)
    found = read("anthropic", body(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]))
    assert (found.contents.own_tools, found.contents.rereads, found.searches) == (1, True, 3)
    found = read("responses", body(input="", tools=[{"type": "web_search"}, {"type": "function", "name": "f"}]))
    assert (found.contents.own_tools, found.contents.rereads, found.searches) == (
        1,
        True,
        MOST_SEARCHES,
    )
    assert contents("chat", web_search_options={}).rereads is False
    assert contents("anthropic", context_management={"edits": [{"type": "compact_20260112"}]}).rereads
    assert not contents("anthropic", context_management={"edits": [{"type": "clear_tool_uses_20250919"}]}).rereads


def test_with_anthropic_nothing_is_cached_without_a_mark() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    assert contents("anthropic", **user({"type": "text", "text": "a", **mark})).caches
    assert contents("anthropic", tools=[{"name": "read", **mark}]).caches
    assert contents("anthropic", **mark).caches
    assert not contents("anthropic", **user({"type": "text", "text": "cache_control"})).caches


def test_a_count_is_asked_with_what_bears_on_the_input_as_it_stands() -> None:
    sent = body(max_tokens=9, stream=True, system="grüß", metadata={}, tools=[{"name": "read"}], temperature=1)
    asked = request_body_policy.countable("anthropic", sent)
    assert json.loads(asked) == {"model": "m", "messages": MESSAGES, "system": "grüß", "tools": [{"name": "read"}]}
    assert "grüß dich 🙂".encode() in asked
    asked = request_body_policy.countable("responses", body(input="a", previous_response_id="resp_1", store=False))
    assert json.loads(asked) == {"model": "m", "input": "a", "previous_response_id": "resp_1"}

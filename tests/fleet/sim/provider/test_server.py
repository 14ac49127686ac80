from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.sim.agent.model_client import Events
from fleet.sim.provider import prompt_directives, request_script, scripted_replies, token_count
from fleet.sim.provider.normalized_request import (
    AssistantText,
    NormalizedRequest,
    RequestedCall,
    Segment,
    ToolOutcome,
    UserText,
)
from fleet.sim.provider.prompt_directives import Fail, RunCommand, Say, Slow, UseTool, WaitDirective
from fleet.sim.provider.quota_headers import SimQuota
from fleet.sim.provider.server import Provider, SimSettings, running
from fleet.sim.provider.token_count import PrefixCache, TokenMeter

PATHS = {"anthropic": "/v1/messages", "responses": "/v1/responses", "chat": "/v1/chat/completions"}
SHELL: dict[str, Any] = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
LIMIT_S = 30.0


def question(api: str, text: str, *, stream: bool = True, tools: bool = False, **more: Any) -> dict[str, Any]:
    """A request with one message, as each API wants it."""
    body: dict[str, Any] = {"model": "m", "stream": stream, **more}
    match api:
        case "anthropic":
            body = {"max_tokens": 10_000, **body, "messages": [{"role": "user", "content": text}]}
            offered: dict[str, Any] = {"name": "Bash", "input_schema": SHELL}
        case "responses":
            body["input"] = text
            offered = {"type": "function", "name": "Bash", "parameters": SHELL}
        case _:
            body["messages"] = [{"role": "user", "content": text}]
            if stream:
                body.setdefault("stream_options", {"include_usage": True})
            offered = {"type": "function", "function": {"name": "Bash", "parameters": SHELL}}
    if tools:
        body["tools"] = [offered]
    return body


class Client:
    def __init__(self, provider: Provider, session: aiohttp.ClientSession) -> None:
        self.provider, self._session = provider, session

    @asynccontextmanager
    async def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> AsyncIterator[Any]:
        sent = {"x-api-key": "k"} if headers is None else headers
        async with self._session.post(self.provider.url + path, json=body, headers=sent) as response:
            yield response

    async def json(self, api: str, text: str, **more: Any) -> dict[str, Any]:
        async with self.post(PATHS[api], question(api, text, stream=False, **more)) as response:
            answer: dict[str, Any] = await response.json()
            assert response.status == 200, answer
            return answer

    async def events(self, api: str, text: str, **more: Any) -> list[dict[str, Any]]:
        async with self.post(PATHS[api], question(api, text, **more)) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            return parsed(await response.read())

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self._session.get(self.provider.url + path, headers=headers) as response:
            return response.status, await response.json() if response.content_type == "application/json" else None


def parsed(raw: bytes) -> list[dict[str, Any]]:
    return [{"done": True} if data == "[DONE]" else json.loads(data) for data in Events().feed(raw)]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running() as provider, aiohttp.ClientSession() as session:
        yield Client(provider, session)


async def test_messages_stream_in_the_documented_order(client: Client) -> None:
    events = await client.events("anthropic", "[[think: hm]][[say: on it]][[run: echo hi]]", tools=True)
    kinds = [event["type"] for event in events]
    assert list(dict.fromkeys(kinds)) == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    starts = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    assert starts == ["thinking", "text", "tool_use"]
    assert [event["index"] for event in events if event["type"] == "content_block_stop"] == [0, 1, 2]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == "hm"
    assert "".join(delta.get("text", "") for delta in deltas) == "on it"
    assert json.loads("".join(delta.get("partial_json", "") for delta in deltas)) == {"command": "echo hi"}
    assert any("signature" in delta for delta in deltas)
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[0]["message"]["usage"]["output_tokens"] == 1
    assert events[-2]["usage"]["output_tokens"] > 1


async def test_responses_stream_in_the_documented_order_with_numbered_events(client: Client) -> None:
    events = await client.events("responses", "[[think: hm]][[say: on it]][[run: echo hi]]", tools=True)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert list(dict.fromkeys(event["type"] for event in events)) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.completed",
    ]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert events[-1]["response"]["output"] == done
    assert [item["type"] for item in done] == ["reasoning", "message", "function_call"]
    assert events[-1]["response"]["usage"]["output_tokens_details"]["reasoning_tokens"] == 1


async def test_chat_streams_end_with_usage_and_done_only_where_it_was_asked_for(client: Client) -> None:
    events = await client.events("chat", "[[say: on it]][[run: echo hi]]", tools=True)
    assert events[-1] == {"done": True}
    assert events[-2]["choices"] == []
    assert events[-2]["usage"]["completion_tokens"] > 0
    assert events[-3]["choices"][0]["finish_reason"] == "tool_calls"
    assert all(event["usage"] is None for event in events[:-2])
    plain = await client.events("chat", "[[say: on it]]", stream_options={})
    assert not any("usage" in event for event in plain)


@pytest.mark.parametrize("api", PATHS)
async def test_a_document_and_a_stream_of_the_same_question_say_and_bill_the_same(client: Client, api: str) -> None:
    text = "[[think: Let me see.]][[say: Grüße, 🙂!]][[run: echo hi]]"
    await client.json(api, text, tools=True)
    await client.events(api, text, tools=True)
    document, stream = client.provider.ledger.entries
    assert (document.answer, document.usage, document.stop) == (stream.answer, stream.usage, stream.stop)
    assert document.answer == "Grüße, 🙂!"


async def test_usage_in_the_answer_is_what_the_ledger_says(client: Client) -> None:
    answer = await client.json("anthropic", "hello")
    usage = client.provider.ledger.entries[0].usage
    assert answer["usage"]["output_tokens"] == usage.output == token_count.count(answer["content"][0]["text"])
    assert answer["usage"]["input_tokens"] == usage.input


async def test_long_beginnings_are_written_to_the_cache_where_marked_and_read_the_next_time(client: Client) -> None:
    marked = {"type": "text", "text": "word " * 2_000, "cache_control": {"type": "ephemeral"}}
    for _ in range(2):
        await client.json("anthropic", "hello", system=[marked])
    first, second = (entry.usage for entry in client.provider.ledger.entries)
    assert first.cache_read == 0
    assert first.cache_write > 2_000
    assert (second.cache_read, second.cache_write) == (first.cache_write, 0)
    assert first.whole_input == second.whole_input


async def test_openai_caches_by_itself_in_steps(client: Client) -> None:
    for _ in range(2):
        await client.json("responses", "word " * 2_000)
    first, second = (entry.usage for entry in client.provider.ledger.entries)
    assert (first.cache_read, second.cache_read % 128) == (0, 0)
    assert second.cache_read > 2_000


@pytest.mark.parametrize(
    ("api", "words"), [("anthropic", "max_tokens"), ("responses", "incomplete"), ("chat", "length")]
)
async def test_an_answer_ends_at_its_limit(client: Client, api: str, words: str) -> None:
    limit = {"responses": "max_output_tokens"}.get(api, "max_tokens")
    answer = await client.json(api, "[[repeat: 100]][[say: word]]", **{limit: 7})
    assert words in json.dumps(answer)
    (entry,) = client.provider.ledger.entries
    assert entry.usage.output == 7
    assert entry.stop == "length"


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("status", [429, 500, 529])
async def test_an_error_before_the_answer_is_a_status_and_costs_nothing(client: Client, api: str, status: int) -> None:
    order = f"[[error: {status} x1 retry-after=3 Not now.]] hello"
    async with client.post(PATHS[api], question(api, order)) as response:
        assert response.status == status
        assert response.headers["retry-after"] == "3"
        assert (await response.json())["error"]["message"] == "Not now."
    assert client.provider.ledger.entries[0].usage == token_count.BilledTokens()
    await client.events(api, order)
    assert [entry.state for entry in client.provider.ledger.entries] == ["refused", "completed"]


@pytest.mark.parametrize("api", PATHS)
async def test_an_error_in_mid_stream_is_an_event_and_what_was_said_is_billed(client: Client, api: str) -> None:
    events = await client.events(api, "[[say: Half of it]][[error: 529]]")
    assert "verloaded" in json.dumps(events[-1])
    (entry,) = client.provider.ledger.entries
    assert (entry.state, entry.answer) == ("failed", "Half of it")
    assert entry.usage.output == token_count.count("Half of it")


@pytest.mark.parametrize("api", PATHS)
async def test_a_disconnect_in_mid_stream_breaks_the_connection(client: Client, api: str) -> None:
    async with client.post(PATHS[api], question(api, "[[say: Half of it]][[disconnect]]")) as response:
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    (entry,) = client.provider.ledger.entries
    assert entry.state == "disconnected"
    assert entry.usage.output > 0


async def test_an_answer_waits_at_a_gate_until_it_is_opened(client: Client) -> None:
    async with client.post(PATHS["chat"], question("chat", "[[say: a]][[wait: gate]][[say: b]]")) as response:
        async with asyncio.timeout(LIMIT_S):
            while b'"a"' not in await response.content.readline():
                pass
        async with client.post("/sim/release/gate", {}) as released:
            assert released.status == 200
        assert b"\\nb" in await response.read()


async def test_a_client_that_leaves_is_billed_for_what_was_said(client: Client) -> None:
    async with client.post(PATHS["anthropic"], question("anthropic", "[[say: abc]][[hang]]")) as response:
        await response.content.readline()
        response.close()
    (entry,) = await client.provider.ledger.find(lambda e: e.state == "client_gone", at_least=1, timeout=LIMIT_S)
    assert entry.usage.input > 0


async def test_the_ledger_can_be_asked_and_waited_for(client: Client) -> None:
    async def ask_later() -> None:
        await client.json("chat", "the second")

    await client.json("chat", "the first")
    later = asyncio.create_task(ask_later())
    status, found = await client.get(f"/sim/ledger?contains=second&state=completed&at_least=1&timeout={LIMIT_S:g}")
    await later
    assert status == 200
    (row,) = found["requests"]
    assert (row["text"], row["number"], row["results"], row["api"]) == ("the second", 2, 0, "chat")
    assert "k" not in row.values()
    assert (await client.get("/sim/ledger?after=2"))[1] == {"requests": []}
    assert (await client.get("/sim/ledger?after=x"))[0] == 400


@pytest.mark.parametrize(
    ("api", "headers", "names"),
    [
        ("anthropic", {"x-api-key": "k"}, "anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-remaining"),
        ("anthropic", {"Authorization": "Bearer k"}, "anthropic-ratelimit-unified-{status,5h-utilization,7d-reset}"),
        ("chat", {"Authorization": "Bearer k"}, "x-ratelimit-{remaining,limit,reset}-tokens"),
        (
            "responses",
            {"Authorization": "Bearer k", "chatgpt-account-id": "a"},
            "x-codex-{primary,secondary}-used-percent",
        ),
    ],
)
async def test_answers_carry_the_quota_of_their_kind_of_account(
    client: Client, api: str, headers: dict[str, str], names: str
) -> None:
    head, _, rest = names.partition("{")
    choices, _, tail = rest.partition("}")
    for _ in range(2):
        async with client.post(PATHS[api], question(api, "hello"), headers) as response:
            await response.read()
            for choice in choices.split(","):
                assert response.headers[f"{head}{choice}{tail}"]


async def test_quota_counts_what_was_billed(client: Client) -> None:
    remaining = []
    for _ in range(2):
        async with client.post(PATHS["anthropic"], question("anthropic", "hello"), {"x-api-key": "k"}) as response:
            remaining.append(int(response.headers["anthropic-ratelimit-input-tokens-remaining"]))
            reset = response.headers["anthropic-ratelimit-requests-reset"]
            await response.read()
    spent = client.provider.ledger.entries[0].usage.whole_input
    # The window of a minute may have begun anew in between.
    assert remaining[0] - remaining[1] in {spent, 0}
    assert reset.endswith("Z")


async def test_a_plan_turns_away_models_whose_window_is_used_up_until_it_begins_anew() -> None:
    now = 1_800_000_000.0
    limits = SimQuota(families={"opus": 1000}, refuses=True)
    given = SimSettings(script=request_script.Script(limits=limits), clock=lambda: now)
    async with running(given) as provider, aiohttp.ClientSession() as session:
        client = Client(provider, session)

        async def ask(model: str, **headers: str) -> tuple[int, str]:
            asked = question("anthropic", "[[cache: 0 2000]][[say: yes]]", model=model)
            async with client.post(PATHS["anthropic"], asked, headers or {"Authorization": "Bearer k"}) as response:
                await response.read()
                return response.status, response.headers.get("anthropic-ratelimit-unified-7d_opus-status", "")

        assert await ask("claude-opus-4-5") == (200, "allowed")
        assert await ask("claude-opus-4-5") == (429, "rejected")
        assert await ask("claude-sonnet-4-5") == (200, "rejected")
        assert (await ask("claude-opus-4-5", **{"x-api-key": "k"}))[0] == 200, "an API key has no such windows"
        now += 7 * 86_400
        assert await ask("claude-opus-4-5") == (200, "allowed")


@pytest.mark.parametrize("api", PATHS)
async def test_a_request_without_a_key_or_without_sense_is_refused_in_the_apis_own_shape(
    client: Client, api: str
) -> None:
    for headers, body, status in (
        ({}, question(api, "hello"), 401),
        (None, {"model": "m"}, 400),
        (None, [1], 400),
        (None, {**question(api, "hello"), "tools": [{"type": "function"}]}, 400),
    ):
        async with client.post(PATHS[api], body, headers) as response:
            assert response.status == status
            assert (await response.json())["error"]["message"]


async def test_what_clients_ask_beside_questions(client: Client) -> None:
    assert (await client.get("/"))[0] == 200
    assert (await client.get("/v1/models"))[1]["object"] == "list"
    assert (await client.get("/v1/models", **{"anthropic-version": "2023-06-01"}))[1]["has_more"] is False
    # Codex takes to HTTP on this status alone.
    assert (await client.get("/v1/responses"))[0] == 426
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    async with client.post("/v1/messages/count_tokens?beta=true", body) as response:
        assert (await response.json())["input_tokens"] > 0


async def test_a_script_gives_orders_by_the_number_of_the_request(tmp_path: Path) -> None:
    path = tmp_path / "script.yaml"
    path.write_text('requests: {1: "[[error: 529]]", "2-3": "[[say: Scripted.]]"}\nlimits: {tokens_per_week: 5}\n')
    async with (
        running(SimSettings(script=request_script.read(path), log=tmp_path / "log")) as provider,
        aiohttp.ClientSession() as session,
    ):
        client = Client(provider, session)
        async with client.post(PATHS["chat"], question("chat", "hello")) as response:
            assert response.status == 529
        for expected in ("Scripted.", "Scripted.", "You said: hello."):
            assert expected in json.dumps(await client.json("chat", "hello"))
    logged = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [row["state"] for row in logged] == ["refused", "completed", "completed", "completed"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("requests: [1]", "requests and limits are mappings"),
        ("requests: {x: '[[hang]]'}", r"requests\.x: a number, a range"),
        ("requests: {1: 2}", r"requests\.1: text with directives"),
        ("limits: {tokens: 1}", r"limits\.tokens: one of"),
        ("other: 1", "keys requests and limits"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_wrong_script_says_where_it_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "script.yaml").write_text(text)
    with pytest.raises(request_script.ScriptError, match=words):
        request_script.read(tmp_path / "script.yaml")


def test_the_program_says_where_it_listens_and_stops_when_its_lifeline_is_cut(tmp_path: Path) -> None:
    for more in ([], ["--unix", str(tmp_path / "s")]):
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fleet.sim.provider", "--until-eof", *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.defpath},
        )
        assert process.stdout is not None
        assert process.stdout.readline().startswith("unix:/" if more else "http://127.0.0.1:")
        process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0


# What is decided without a server.


def asked(text: str, *after: Any, tools: bool = True) -> NormalizedRequest:
    added = ("<system-reminder>[[say: no]]</system-reminder>", '<role name="coder">\n[[say: no]]\n</role>')
    items = (*(UserText(words) for words in added), UserText(text), *after)
    return NormalizedRequest(
        api="anthropic", model="m", items=items, segments=(Segment("", 0),), tools={"Bash": SHELL} if tools else {}
    )


def test_orders_are_carried_out_part_by_part_as_tools_answer() -> None:
    text = "[[say: one]][[run: a]][[say: two]][[run: b]][[say: three]]"
    first, second = (
        (RequestedCall("1", "Bash"), ToolOutcome("1", "A")),
        (RequestedCall("2", "Bash"), ToolOutcome("2", "B")),
    )
    assert scripted_replies.reply(asked(text)) == (Say("one"), UseTool("Bash", {"command": "a"}))
    assert scripted_replies.reply(asked(text, *first)) == (
        Say("Bash returned: A"),
        Say("\ntwo"),
        UseTool("Bash", {"command": "b"}),
    )
    assert scripted_replies.reply(asked(text, *first, *second)) == (Say("Bash returned: B"), Say("\nthree"))
    assert scripted_replies.reply(asked(text, *first, *second, AssistantText("x"), UserText("thanks")))[0] == Say(
        "You said: thanks. I am the simulated model, and noted it."
    )


def test_a_tool_that_is_not_offered_is_not_called() -> None:
    (step,) = scripted_replies.reply(asked("[[run: rm -rf /]]", tools=False))
    assert step == Say("I would run rm -rf /, but no shell is offered.")
    (step,) = scripted_replies.reply(asked('[[tool: Nope {"a": 1}]]'))
    assert isinstance(step, Say)


def test_orders_in_what_a_tool_returned_are_carried_out_where_it_is_obeyed() -> None:
    text = "[[script: do it.txt]][[say: end]]"
    output = ToolOutcome("1", "please [[say: two]] [[run: b]][[obey]]")
    read = (RequestedCall("1", "Bash"), output)
    (step,) = scripted_replies.reply(asked(text))
    assert step == UseTool("Bash", {"command": "cat 'do it.txt'"})
    _, *rest = scripted_replies.reply(asked(text, *read))
    assert rest == [Say("\ntwo"), UseTool("Bash", {"command": "b"})]
    ran = (RequestedCall("2", "Bash"), ToolOutcome("2", "[[say: no]]"))
    assert scripted_replies.reply(asked(text, *read, *ran))[1:] == (Say("\nend"),)


@pytest.mark.parametrize("text", ["[[obey]]", "[[obey]][[say: words]]"])
def test_nothing_is_obeyed_before_a_tool_returned_something(text: str) -> None:
    assert all(isinstance(step, Say) for step in scripted_replies.reply(asked(text)))


def test_a_file_is_committed_whatever_its_name_and_its_words(tmp_path: Path) -> None:
    (step,), _ = prompt_directives.parse("[[commit: a/b'c.txt It's $HOME, `date` and %s.]]")
    assert isinstance(step, RunCommand)
    identity = {f"GIT_{who}_{what}": "x@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), **identity}
    for command in ("git init -q", step.command):
        subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, env=environment, check=True)
    shown = subprocess.run(["git", "show", "HEAD:a/b'c.txt"], cwd=tmp_path, capture_output=True, check=True, text=True)
    assert shown.stdout == "It's $HOME, `date` and %s.\n"


def test_a_tool_of_a_server_is_called_by_its_own_name() -> None:
    request = dataclasses.replace(asked('[[tool: report {"text": "x"}]]'), tools={"mcp__muster__report": SHELL})
    assert scripted_replies.reply(request) == (UseTool("mcp__muster__report", {"text": "x"}),)
    two = dataclasses.replace(request, tools={"mcp__a__report": SHELL, "mcp__b__report": SHELL})
    assert isinstance(scripted_replies.reply(two)[0], Say)


def test_orders_are_read_with_what_is_in_them() -> None:
    steps, words = prompt_directives.parse(
        'Please [[tool: Bash {"command": "[[ -f x ]] && echo \\"]]\\""}]] and [[error: 429 x2 retry-after=1.5 No, no.]]'
        "[[slow: 0.5]] then [[wait: gate]][[stream: 3 ab]]"
    )
    assert steps == (
        UseTool("Bash", {"command": '[[ -f x ]] && echo "]]"'}),
        Fail(429, "No, no.", 2, 1.5),
        Slow(0.5),
        WaitDirective("gate"),
        Say("ab ab ab ", ("ab ", "ab ", "ab ")),
    )
    assert words == "Please  and  then"
    assert prompt_directives.parse("Please run `ls -l`.") == ((RunCommand("ls -l"),), "Please run `ls -l`.")


@pytest.mark.parametrize(
    "text", ["[[say: open", "[[delay: x]]", "[[delay: -1]]", "[[tool: X {]]", "[[error: no]]", "[[ -f x ]]"]
)
def test_what_cannot_be_read_stays_words(text: str) -> None:
    assert prompt_directives.parse(text) == ((), text)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_however_an_answer_is_cut_it_is_the_same_words_at_the_same_price(text: str, sizes: list[int]) -> None:
    whole = TokenMeter(None)
    whole.words("text", text)
    pieces, place = [], 0
    for size in [*sizes, len(text)]:
        pieces.append(text[place : place + size])
        place += size
    cut = TokenMeter(None)
    assert "".join(cut.words("text", piece) for piece in pieces) == text
    assert cut.output == whole.output == token_count.count(text)
    provider = Provider()
    assert "".join(provider.pieces(asked(text), Say(text))) == text


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(st.text(max_size=20), max_size=20), limit=st.integers(1, 30))
def test_no_answer_costs_more_than_its_limit(pieces: list[str], limit: int) -> None:
    meter = TokenMeter(limit)
    for index, piece in enumerate(pieces):
        meter.words("thought" if index % 3 == 0 else "text", piece)
        assert meter.output <= limit
        assert meter.reasoning <= meter.output


@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(
        st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 2_000), st.booleans()), max_size=6), max_size=8
    ),
    marked=st.booleans(),
)
def test_the_parts_of_the_input_always_add_up(prompts: list[list[tuple[str, int, bool]]], marked: bool) -> None:
    cache = PrefixCache(capacity=5)
    for prompt in prompts:
        segments = [Segment(name, count, mark) for name, count, mark in prompt]
        usage = cache.bill(segments, owner="o", marked=marked)
        assert usage.whole_input == sum(segment.tokens for segment in segments)
        assert min(usage.input, usage.cache_read, usage.cache_write) >= 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_events_are_read_however_the_bytes_are_cut(data: st.DataObject) -> None:
    sent = data.draw(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n")), max_size=5))
    raw = b"".join(b"event: x\r\ndata: " + text.encode() + b"\r\n\r\n" for text in sent)
    events, seen, place = Events(), [], 0
    while place < len(raw):
        size = data.draw(st.integers(1, 12))
        seen += events.feed(raw[place : place + size])
        place += size
    assert seen == sent

"""Ids, causes and contents of spans."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, http_attributes
from opentelemetry.semconv.attributes import error_attributes

from bot.messaging.outbox_keys import event_digest
from bot.traces import causes, spans
from bot.traces.causes import Cause, TurnKey
from bot.traces.model import SpanIds, is_sampled
from bot.traces.spans import TurnTimes
from database.queries.operations.trace_sources import TracedMessage, TracedRequest, TracedRun, TracedTask

IDS = SpanIds(7)
DIGEST = event_digest("matrix", "$event")
ROOT = f"event/{DIGEST}"

REQUEST = TracedRequest(
    place=1, id="ab12-1", agent="coder0", role="coder", session="s", turn="1-1", task=None, account="main",
    provider="anthropic", model_asked="claude-sonnet-4-5", model="claude-sonnet-4-5-20250929", attempt=1,
    input_tokens=10, output_tokens=20, cache_read_tokens=300, cache_write_tokens=4000, reasoning_tokens=5,
    reported=True, status=200, how="completed", error=None, started_at=100.0, ended_at=101.5, first_byte_s=0.5,
    usd=0.01,
)  # fmt: skip
MESSAGE = TracedMessage(
    place=1, ended=True, id=f"m{DIGEST}", agent="coder0", mode="queue", state="finished", turn="1-1", created_at=100.0,
    updated_at=120.0,
)  # fmt: skip
RUN = TracedRun(
    id=f"c{DIGEST}", name="launch", door="chat", connector="matrix", event_id="$event", state="done", code=None,
    started_at=1.0, ended_at=2.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (f"m{DIGEST}", Cause(ROOT, ("event", DIGEST))),
        (f"c{DIGEST}", Cause(ROOT, ("run", f"c{DIGEST}"))),
        (f"c{DIGEST}-task", Cause(ROOT, ("run", f"c{DIGEST}"))),
        ("key-of-a-client", Cause("run/key-of-a-client", ("run", "key-of-a-client"))),
        ("key-of-a-client-again", Cause("run/key-of-a-client", ("run", "key-of-a-client"))),
        ("go-on-5", Cause("message/go-on-5")),
        ("task-0123abcd-1", Cause(ROOT, ("run", f"c{DIGEST}"))),
    ],
)
def test_the_id_of_a_message_tells_its_trace(message: str, cause: Cause) -> None:
    task = TracedTask(id="0123abcd", kind="task", connector="matrix", event_id="$event")
    assert causes.of_message(message, task, {f"c{DIGEST}", "key-of-a-client"}) == cause


def test_the_message_of_a_task_without_a_chat_event_begins_a_trace() -> None:
    task = TracedTask(id="0123abcd", kind="task", connector=None, event_id=None)
    for known in (task, None):
        assert causes.of_message("task-0123abcd-1", known, set()) == Cause("message/task-0123abcd-1")


@pytest.mark.parametrize(
    ("key", "cause"),
    [
        (f"c/c{DIGEST}", Cause(ROOT, ("run", f"c{DIGEST}"))),
        (f"c/c{DIGEST}/1", Cause(ROOT, ("run", f"c{DIGEST}"))),
        (f"c/c{DIGEST}@discord", Cause(ROOT, ("run", f"c{DIGEST}"))),
        (f"confirm/c{DIGEST}", Cause(ROOT, ("run", f"c{DIGEST}"))),
        (f"n{DIGEST}", Cause(ROOT, ("event", DIGEST))),
        ("t/coder0/3-14/said", TurnKey("coder0", "3-14")),
        ("t/coder0/3-14/said/end", TurnKey("coder0", "3-14")),
        ("t/coder0/3-14/did", None),
        (f"r/m{DIGEST}/finished", None),
        ("th/coder0", None),
    ],
)
def test_the_key_of_a_message_in_chat_tells_what_it_answers(key: str, cause: Cause | TurnKey | None) -> None:
    assert causes.of_reply(key) == cause


def test_ids_differ_between_installations_kinds_and_keys() -> None:
    ids = [salt.span(kind, key) for salt in (IDS, SpanIds(8)) for kind in ("run", "turn") for key in ("a", "b")]
    assert len(set(ids)) == 8
    assert IDS.trace("a") == IDS.trace("a")
    assert IDS.trace("a") != SpanIds(8).trace("a")
    assert (len(IDS.trace("a")), len(IDS.span("run", "a"))) == (16, 8)


def test_a_share_of_traces_is_sent() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    traces = [IDS.trace(str(chance.random())) for _ in range(4000)]
    assert all(is_sampled(each, 1.0) for each in traces)
    assert not any(is_sampled(each, 0.0) for each in traces)
    quarter = [each for each in traces if is_sampled(each, 0.25)]
    assert 800 < len(quarter) < 1200
    assert all(is_sampled(each, 0.5) for each in quarter), "a larger share contains a smaller one"


def test_counts_of_the_whole_contain_the_parts() -> None:
    told = spans.of_request(IDS, REQUEST, Cause("r")).attributes
    assert told["gen_ai.usage.input_tokens"] == 4310
    assert told["gen_ai.usage.output_tokens"] == 25
    assert told["gen_ai.usage.cache_read.input_tokens"] == 300


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (REQUEST, None),
        (replace(REQUEST, status=529, error="overloaded_error", how="error"), "overloaded_error"),
        (replace(REQUEST, status=None, how="cut"), "cut"),
        (replace(REQUEST, how="client_gone"), "client_gone"),
    ],
)
def test_a_request_that_failed_says_how(row: TracedRequest, error: str | None) -> None:
    span = spans.of_request(IDS, row, Cause("r"))
    assert (span.failed, span.attributes.get("error.type")) == (error is not None, error)


@pytest.mark.parametrize("model", ["my secret words", "x" * 200, "a\nb", "", "naïve", '{"a":1}'])
def test_what_looks_like_no_name_is_left_out(model: str) -> None:
    span = spans.of_request(IDS, replace(REQUEST, model_asked=model, model=model), Cause("r"))
    assert span.name == "chat"
    assert not {"gen_ai.request.model", "gen_ai.response.model"} & span.attributes.keys()


def test_a_name_that_somebody_typed_is_no_command() -> None:
    span = spans.of_run(IDS, replace(RUN, name="my secret words"), Cause("r"), {"launch": None})
    assert span.name == "command unknown"
    assert "secret" not in str(span)


def test_a_turn_has_the_times_of_its_journal() -> None:
    times = TurnTimes(queued_at=101.0, started_at=102.0, ended_at=110.0, session="s-1", stop_reason="end_turn")
    order, turn = spans.of_message(IDS, MESSAGE, Cause(ROOT), None, times)
    assert (order.started_at, order.ended_at) == (100.0, 101.0)
    assert (turn.started_at, turn.ended_at, turn.parent) == (102.0, 110.0, order.id)
    assert not turn.failed


def test_a_turn_without_its_journal_has_the_times_of_the_register() -> None:
    order, turn = spans.of_message(IDS, MESSAGE, Cause(ROOT), None, TurnTimes())
    assert order.started_at == 100.0
    assert turn.ended_at == 120.0


def test_a_reason_of_a_runtimes_own_is_no_attribute() -> None:
    failed = replace(MESSAGE, state="failed")
    turn = spans.of_message(IDS, failed, Cause(ROOT), None, TurnTimes(stop_reason="because of PLANTED"))[1]
    assert "PLANTED" not in str(turn)
    assert turn.attributes["error.type"] == "failed"


def test_a_message_that_was_never_read_has_no_turn() -> None:
    [order] = spans.of_message(IDS, replace(MESSAGE, state="dead", turn=None), Cause(ROOT), None, TurnTimes())
    assert order.failed
    [order] = spans.of_message(IDS, replace(MESSAGE, state="withdrawn", turn=None), Cause(ROOT), None, TurnTimes())
    assert not order.failed


def test_a_clock_that_was_set_back_makes_no_negative_length() -> None:
    span = spans.of_request(IDS, replace(REQUEST, ended_at=50.0), Cause("r"))
    assert span.ended_at == span.started_at


def test_names_of_the_conventions_are_theirs() -> None:
    modules = (gen_ai_attributes, http_attributes, error_attributes)
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    failed = replace(REQUEST, how="error", error="overloaded_error")
    made = spans.of_message(IDS, MESSAGE, Cause(ROOT), None, TurnTimes(session="s"))
    names = {name for span in (*made, spans.of_request(IDS, failed, Cause("r"))) for name in span.attributes}
    assert {name for name in names if not name.startswith("muster.")} <= known
    operations = {each.value for each in gen_ai_attributes.GenAiOperationNameValues}
    assert {"chat", "invoke_agent"} <= operations

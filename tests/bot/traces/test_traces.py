"""What a collector of traces gets of a whole orchestrator."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import bot.traces
from bot.app.orchestrator import Orchestrator
from bot.monitoring import health, health_view
from bot.text.errors import UserError
from bot.traces import service
from tests import waiting
from tests.bot.orchestrator import house
from tests.bot.traces.collector import LocalCollector, values

SECRET = "sk-test-0123456789-in-a-header"


@pytest.fixture
async def collector() -> AsyncIterator[LocalCollector]:
    async with LocalCollector().listening() as listening:
        yield listening


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "EVERY_S", 0.05)
    monkeypatch.setattr(service, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(service, "LONGEST_PAUSE", 0.1)


def block(collector: LocalCollector, more: str = "") -> str:
    return f"traces:\n  endpoint: {collector.url}\n{more}"


async def _reachable(orchestrator: Orchestrator) -> bool | None:
    report = await health.load(orchestrator.services)
    return next((each.reachable for each in report.parts_of("traces")), None)


async def test_a_message_its_model_request_and_its_reply_are_one_trace(
    tmp_path: Path, collector: LocalCollector
) -> None:
    async with house(tmp_path, settings=block(collector)) as home, home.open():
        thread = await home.launch("coder0")
        event = home.say("Say hello.", thread)
        await home.marks(event, "✅")
        await collector.until(lambda: {"invoke_agent coder0", "reply"} <= names(collector, event))
        await collector.until(lambda: any(name.startswith("chat claude") for name in names(collector, event)))
        [spent] = await home.spent(1)
    [begin] = [span for span in trace_of(collector, event) if span.name == "chat message"]
    [order] = children(collector, begin)
    [turn] = children(collector, order)
    inside = {span.name: span for span in children(collector, turn)}
    [request] = [span for name, span in inside.items() if name.startswith("chat claude")]
    assert begin.parent_span_id == b""
    assert (order.name, turn.name) == ("order coder0", "invoke_agent coder0")
    assert set(inside) == {request.name, "reply"}
    assert len(trace_of(collector, event)) == 5
    for earlier, later in ((begin, order), (order, turn), (turn, request)):
        assert earlier.start_time_unix_nano <= later.start_time_unix_nano <= later.end_time_unix_nano
    assert turn.start_time_unix_nano <= request.end_time_unix_nano <= turn.end_time_unix_nano
    assert values(turn)["muster.agent.runtime"] == "sim"
    assert values(turn)["muster.turn.id"] == values(request)["muster.turn.id"] == "1-1"
    told = values(request)
    assert told["gen_ai.provider.name"] == "anthropic"
    assert told["http.response.status_code"] == 200
    assert told["gen_ai.usage.input_tokens"] == spent.input_tokens + spent.cache_read_tokens + spent.cache_write_tokens
    assert told["gen_ai.usage.output_tokens"] == spent.output_tokens
    assert request.kind == Span.SPAN_KIND_CLIENT
    assert all(span.status.code == Status.STATUS_CODE_UNSET for span in trace_of(collector, event))


async def test_a_command_and_its_answer_are_one_trace(tmp_path: Path, collector: LocalCollector) -> None:
    async with house(tmp_path, settings=block(collector)) as home, home.open():
        for line, name, code in (
            ("!ps", "ps", None),
            ("!stop nobody7", "stop", "agent.unknown"),
            ("!cordially", "unknown", "command.unknown"),
        ):
            event = home.chat.post(line, sender="@ana", conversation="room")
            await home.reply(event)
            await collector.until(lambda event=event: len(trace_of(collector, event)) == 3)  # type: ignore[misc]
            begin, run, reply = sorted(trace_of(collector, event), key=lambda span: span.name)
            assert (begin.name, run.name, reply.name) == ("chat message", f"command {name}", "reply")
            assert run.parent_span_id == begin.span_id
            assert reply.parent_span_id == run.span_id
            assert values(run).get("error.type") == code
            assert run.status.code == (Status.STATUS_CODE_UNSET if code is None else Status.STATUS_CODE_ERROR)
    assert_each_once(collector)


async def test_the_words_of_a_task_that_is_dispatched_lead_to_its_turn(
    tmp_path: Path, collector: LocalCollector
) -> None:
    async with house(tmp_path, settings=block(collector)) as home, home.open():
        await home.launch("coder0")
        event = home.chat.post("!task add '[[say: I looked.]]' --agent coder0", sender="@ana", conversation="room")
        await collector.until(lambda: "invoke_agent coder0" in names(collector, event))
    [run] = [span for span in trace_of(collector, event) if span.name == "command task add"]
    assert {"order coder0", "reply"} <= {span.name for span in children(collector, run)}


async def test_nothing_that_people_or_agents_wrote_leaves(tmp_path: Path, collector: LocalCollector) -> None:
    key = tmp_path / "collector-key"
    key.write_text(SECRET)
    key.chmod(0o600)
    settings = block(collector, f"  headers: {{Authorization: 'file:{key}'}}\n")
    async with house(tmp_path, settings=settings) as home, home.open():
        thread = await home.launch("coder0", "--task", "PLANTEDTASK")
        event = home.say("PLANTEDWORD [[run: echo PLANTEDCOMMAND >> PLANTEDFILE]] [[stream: 5 PLANTEDANSWER]]", thread)
        asked = await home.heard(thread, "PLANTEDFILE")
        assert "PLANTEDCOMMAND" in asked
        [request] = set(re.findall(r"!approve (\w+)", asked))
        home.say(f"!approve {request}", thread)
        await home.marks(event, "✅")
        await home.ask("!PLANTEDNAME PLANTEDARGUMENT")
        await home.ask("!send coder0 PLANTEDLETTER")
        await collector.until(lambda: len(collector.named("invoke_agent")) >= 3)
        await collector.until(lambda: collector.named("command unknown"))
    everything = b"".join(collector.bodies)
    assert b"coder0" in everything
    assert b"PLANTED" not in everything.upper()
    assert SECRET.encode() not in everything
    assert home.key.encode() not in everything
    assert str(tmp_path).encode() not in everything
    assert {sent["Authorization"] for sent in collector.headers} == {SECRET}


async def test_a_collector_that_is_away_gets_all_of_it_later_and_once(
    tmp_path: Path, collector: LocalCollector
) -> None:
    collector.statuses = [503] * 100_000
    async with house(tmp_path, settings=block(collector)) as home, home.open() as orchestrator:
        await home.ask("!ps")
        await collector.until(lambda: collector.asked >= 3)
        report = await health.load(orchestrator.services)
        assert [each.reachable for each in report.parts_of("traces")] == [False]
        assert "it answered 503" in health_view.health_text(report, 0.0)
        assert report.status == "ok", "traces are no part of the work"
        for _ in range(3):
            await home.ask("!whoami")
        collector.statuses.clear()
        await collector.until(lambda: len(collector.named("reply")) == 4)
        await waiting.until(lambda: _reachable(orchestrator), lambda found: found is True)
    assert len(collector.named("chat message")) == len(collector.named("command")) == 4
    assert_each_once(collector)


async def test_nobody_listens_and_then_somebody_does(tmp_path: Path) -> None:
    collector = LocalCollector()
    async with collector.listening():
        pass  # which port it has is known now
    async with house(tmp_path, settings=block(collector)) as home, home.open() as orchestrator:
        await home.ask("!ps")
        await waiting.until(lambda: _reachable(orchestrator), lambda found: found is False)
        async with collector.listening():
            await collector.until(lambda: collector.named("reply"))
    assert_each_once(collector)


async def test_a_restart_goes_on_where_the_last_one_was(tmp_path: Path, collector: LocalCollector) -> None:
    async with house(tmp_path, settings=block(collector)) as home:
        async with home.open():
            await home.ask("!ps")
            await collector.until(lambda: len(collector.named("reply")) == 1)
            collector.statuses = [503] * 100_000
            await home.ask("!ps")
        collector.statuses.clear()
        async with home.open():
            await home.ask("!ps")
            await collector.until(lambda: len(collector.named("reply")) == 3)
    assert_each_once(collector)


async def test_what_happened_while_there_were_no_traces_is_not_sent(tmp_path: Path, collector: LocalCollector) -> None:
    async with house(tmp_path, settings=block(collector)) as home:
        async with home.open():
            await home.ask("!ps")
            await collector.until(lambda: collector.named("reply"))
        with_traces = home.paths.muster_yaml.read_text()
        home.paths.muster_yaml.write_text(with_traces.replace(block(collector), ""))
        async with home.open():
            await home.ask("!whoami")
        home.paths.muster_yaml.write_text(with_traces)
        async with home.open():
            await home.ask("!health")
            await collector.until(lambda: len(collector.named("reply")) == 2)
    assert {span.name for span in collector.named("command")} == {"command ps", "command health"}


async def test_a_share_of_none_sends_nothing(tmp_path: Path, collector: LocalCollector) -> None:
    async with house(tmp_path, settings=block(collector, "  sample: 0\n")) as home, home.open() as orchestrator:
        await home.ask("!ps")
        await orchestrator.quiet()
        for _ in range(5):
            await asyncio.sleep(service.EVERY_S)
    assert collector.asked == 0


async def test_without_its_extra_muster_says_how_to_install_it(
    tmp_path: Path, collector: LocalCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("service", "collector", "otlp"):
        monkeypatch.delitem(sys.modules, f"bot.traces.{module}")
        monkeypatch.delattr(bot.traces, module)
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.trace.v1.trace_service_pb2", None)
    async with house(tmp_path, settings=block(collector)) as home:
        with pytest.raises(UserError, match=r"pip install 'muster-fleet\[opentelemetry\]'") as refused:
            async with home.open():
                pass
        assert refused.value.code == "traces.not_installed"


async def test_a_secret_that_no_header_can_have_is_refused(tmp_path: Path, collector: LocalCollector) -> None:
    key = tmp_path / "collector-key"
    key.write_text("one\ntwo")
    key.chmod(0o600)
    async with house(tmp_path, settings=block(collector, f"  headers: {{X-Key: 'file:{key}'}}\n")) as home:
        with pytest.raises(UserError, match="header X-Key") as refused:
            async with home.open():
                pass
        assert refused.value.code == "traces.header"


_LOADED = "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google'))])"
_UP = """
import asyncio, sys
from bot.app.orchestrator import running
from bot.config.loader import load
from bot.config.paths import Paths

async def up():
    paths = Paths.of({"MUSTER_HOME": sys.argv[1], "HOME": sys.argv[1]})
    paths.prepare()
    async with running(paths, load(paths), {}):
        pass

asyncio.run(up())
"""


@pytest.mark.parametrize("code", ["import sys, bot.interfaces.cli.main", _UP], ids=["a command", "an orchestrator"])
def test_nothing_of_it_is_loaded_without_the_block(tmp_path: Path, code: str) -> None:
    command = [sys.executable, "-c", f"{code}\n{_LOADED}", str(tmp_path)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True)
    assert loaded.stdout.splitlines()[-1] == "[]"


def trace_of(collector: LocalCollector, event: str) -> list[Span]:
    """The spans of the trace that an event begins."""
    begins = [span for span in collector.named("chat message") if values(span)["muster.event.id"] == event]
    return [span for span in collector.spans if begins and span.trace_id == begins[0].trace_id]


def names(collector: LocalCollector, event: str) -> set[str]:
    return {span.name for span in trace_of(collector, event)}


def children(collector: LocalCollector, parent: Span) -> list[Span]:
    found = [span for span in collector.spans if span.parent_span_id == parent.span_id]
    assert {span.trace_id for span in found} <= {parent.trace_id}
    return found


def assert_each_once(collector: LocalCollector) -> None:
    ids = [span.span_id for span in collector.spans]
    assert len(ids) == len(set(ids))

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from fleet.sim.provider.server import Provider, running
from tests.fleet.sim.wire import Wire, WireError, forked, result, spawned

COMMAND = (sys.executable, "-P", "-m", "fleet.sim.agent")


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with running() as provider:
        yield provider


class Place:
    """Where an agent works and lives."""

    def __init__(self, folder: Path) -> None:
        self.workspace, self.home = folder / "workspace", folder / "home"
        self.workspace.mkdir()
        self.home.mkdir()

    @asynccontextmanager
    async def agent(self, url: str, api: str = "anthropic", *, program: bool = False) -> AsyncIterator[Wire]:
        """The agent, forked; or started as the program that it is."""
        environment = {
            "HOME": str(self.home),
            "PATH": os.defpath,
            "MUSTER_SIM_API": api,
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "sk-secret",
            "OPENAI_BASE_URL": f"{url}/v1",
            "OPENAI_API_KEY": "sk-secret",
        }
        starting = spawned(COMMAND, environment=environment, cwd=self.workspace) if program else None
        async with starting or forked(environment=environment, cwd=self.workspace) as wire:
            await wire.initialize()
            yield wire


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("api", ["anthropic", "responses", "chat"])
async def test_answers_through_every_api(place: Place, provider: Provider, api: str) -> None:
    async with place.agent(provider.url, api, program=True) as wire:
        session = await wire.new_session(place.workspace)
        answer = await wire.turn(session, "[[think: hm]]What is this?[[say: It is a füll sentence 🙂.]]")
        assert answer["stopReason"] == "end_turn"
        assert wire.said() == "It is a füll sentence 🙂."
        (entry,) = provider.ledger.entries
        assert (entry.api, entry.state) == (api, "completed")
        assert answer["usage"]["outputTokens"] == entry.usage.output
        assert answer["usage"]["inputTokens"] == entry.usage.whole_input
        assert wire.of("usage_update")[0]["used"] == entry.usage.whole_input + entry.usage.output
        if api != "chat":
            assert wire.said("agent_thought_chunk") == "hm"


@pytest.mark.parametrize("api", ["anthropic", "responses", "chat"])
async def test_runs_a_command_that_was_allowed_and_reports_what_it_printed(
    place: Place, provider: Provider, api: str
) -> None:
    async with place.agent(provider.url, api) as wire:
        session = await wire.new_session(place.workspace)
        await wire.turn(session, "[[say: On it.]][[run: echo from $PWD > out; cat out]][[say: That was it.]]")
        (asked,) = wire.permissions
        assert asked["toolCall"]["rawInput"] == {"command": "echo from $PWD > out; cat out"}
        assert asked["toolCall"]["kind"] == "execute"
        assert [option["kind"] for option in asked["options"]] == ["allow_always", "allow_once", "reject_once"]
        assert wire.said() == f"On it.Bash returned: from {place.workspace}\nThat was it."
        assert (place.workspace / "out").read_text() == f"from {place.workspace}\n"
        states = [update["status"] for update in wire.of("tool_call_update")]
        assert states == ["in_progress", "completed"]


async def test_does_not_run_what_was_rejected(place: Place, provider: Provider) -> None:
    async with place.agent(provider.url) as wire:
        wire.decide = lambda _: "reject_once"
        session = await wire.new_session(place.workspace)
        answer = await wire.turn(session, "[[run: touch made]]")
        assert answer["stopReason"] == "end_turn"
        assert not (place.workspace / "made").exists()
        assert "did not allow" in wire.said()


async def test_asks_once_for_what_was_allowed_for_always_but_again_for_anything_else(
    place: Place, provider: Provider
) -> None:
    async with place.agent(provider.url) as wire:
        wire.decide = lambda _: "allow_always"
        session = await wire.new_session(place.workspace)
        for command in ("echo 1", "echo 1", "echo 2"):
            await wire.turn(session, f"[[run: {command}]]")
        assert [asked["toolCall"]["title"] for asked in wire.permissions] == ["echo 1", "echo 2"]


async def test_writes_files_in_the_workspace_and_nowhere_else(place: Place, provider: Provider) -> None:
    async with place.agent(provider.url) as wire:
        session = await wire.new_session(place.workspace)
        for name in ("inside/a.txt", "../outside.txt"):
            value = json.dumps({"file_path": name, "content": "text"})
            await wire.turn(session, f"[[tool: Write {value}]]")
        assert (place.workspace / "inside" / "a.txt").read_text() == "text"
        assert not (place.workspace.parent / "outside.txt").exists()
        assert "outside the workspace" in wire.said()


async def test_keeps_its_key_from_the_commands_it_runs(place: Place, provider: Provider) -> None:
    async with place.agent(provider.url, program=True) as wire:
        session = await wire.new_session(place.workspace)
        await wire.turn(session, "[[run: env]]")
        assert "sk-secret" not in wire.said()


async def test_cancel_ends_a_turn_in_the_middle_of_its_stream(place: Place, provider: Provider) -> None:
    async with place.agent(provider.url) as wire:
        session = await wire.new_session(place.workspace)
        running_turn = wire.prompt(session, "[[say: Half of it]][[hang]]")
        await wire.until(lambda: wire.said() == "Half of it")
        wire.notify("session/cancel", {"sessionId": session})
        assert result(await running_turn)["stopReason"] == "cancelled"
        (gone,) = await provider.ledger.find(lambda e: e.state == "client_gone", at_least=1, timeout=30)
        assert gone.usage.output > 0
        assert (await wire.turn(session, "[[say: Next.]]"))["stopReason"] == "end_turn"


async def test_cancel_kills_the_running_command_and_withdraws_an_open_question(
    place: Place, provider: Provider
) -> None:
    async with place.agent(provider.url) as wire:
        session = await wire.new_session(place.workspace)
        running_turn = wire.prompt(session, "[[run: echo $$ > pid; sleep 1000]]")
        await wire.until(lambda: any(u.get("status") == "in_progress" for u in wire.of("tool_call_update")))
        children = psutil.Process(wire.process.pid).children(recursive=True)
        wire.notify("session/cancel", {"sessionId": session})
        assert result(await running_turn)["stopReason"] == "cancelled"
        psutil.wait_procs(children, timeout=30)
        assert not psutil.Process(wire.process.pid).children(recursive=True)

        wire.decide = None
        asking_turn = wire.prompt(session, "[[run: touch made]]")
        await wire.until(lambda: len(wire.permissions) == 2)
        wire.notify("session/cancel", {"sessionId": session})
        assert result(await asking_turn)["stopReason"] == "cancelled"
        assert (await wire.turn(session, "[[say: Next.]]"))["stopReason"] == "end_turn"
        assert not (place.workspace / "made").exists()


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("[[error: 529]]", "529 (overloaded_error): Overloaded"),
        ("[[error: 429 Come back later]]", "429 (rate_limit_error): Come back later"),
        ("[[say: Half]][[error: 529]]", "broke off: (overloaded_error): Overloaded"),
        ("[[say: Half]][[disconnect]]", "connection to the model API"),
    ],
)
async def test_a_failing_model_is_an_error_that_says_so_and_the_session_goes_on(
    place: Place, provider: Provider, order: str, words: str
) -> None:
    async with place.agent(provider.url) as wire:
        session = await wire.new_session(place.workspace)
        with pytest.raises(WireError) as caught:
            await wire.turn(session, order)
        assert words in str(caught.value)
        assert "sk-secret" not in str(caught.value.error)
        assert (await wire.turn(session, "[[say: Next.]]"))["stopReason"] == "end_turn"


async def test_a_provider_that_is_away_is_an_error_with_its_address(place: Place) -> None:
    async with place.agent("http://127.0.0.1:1") as wire:
        session = await wire.new_session(place.workspace)
        with pytest.raises(WireError, match=r"http://127\.0\.0\.1:1 failed"):
            await wire.turn(session, "hello")


async def test_a_ping_is_answered_method_not_found_in_the_middle_of_a_turn(place: Place, provider: Provider) -> None:
    async with place.agent(provider.url) as wire:
        session = await wire.new_session(place.workspace)
        running_turn = wire.prompt(session, "[[say: Half]][[wait: go]]")
        await wire.until(lambda: bool(wire.said()))
        with pytest.raises(WireError) as caught:
            await wire.request("_muster/ping", {})
        assert caught.value.code == -32601
        with pytest.raises(WireError, match="A turn is running"):
            await wire.turn(session, "another")
        provider.release("go")
        assert result(await running_turn)["stopReason"] == "end_turn"


async def test_a_killed_agent_goes_on_with_its_session(place: Place, provider: Provider) -> None:
    async with place.agent(provider.url) as wire:
        session = await wire.new_session(place.workspace)
        await wire.turn(session, "[[run: echo once]][[say: Well.]]")
        wire.decide = None
        wire.prompt(session, "[[run: touch made]]").add_done_callback(lambda f: f.exception())
        await wire.until(lambda: len(wire.permissions) == 2)
        await wire.kill()
    async with place.agent(provider.url) as wire:
        await wire.request("session/load", {"cwd": str(place.workspace), "sessionId": session, "mcpServers": []})
        assert wire.said("user_message_chunk") == "[[run: echo once]][[say: Well.]][[run: touch made]]"
        assert "Bash returned: once\nWell." in wire.said()
        assert len(wire.of("tool_call")) == 2
        replayed = len(wire.updates)
        answer = await wire.turn(session, "[[say: Here again.]]")
        assert answer["stopReason"] == "end_turn"
        assert "Here again." in "".join(
            u["content"]["text"] for u in wire.updates[replayed:] if u["sessionUpdate"] == "agent_message_chunk"
        )
        assert not (place.workspace / "made").exists()


@pytest.mark.parametrize("name", ["0" * 32, "../../etc/passwd", ""])
async def test_a_session_that_is_not_there_cannot_be_loaded(place: Place, provider: Provider, name: str) -> None:
    async with place.agent(provider.url) as wire:
        with pytest.raises(WireError, match="Resource not found"):
            await wire.request("session/load", {"cwd": str(place.workspace), "sessionId": name, "mcpServers": []})


@pytest.mark.parametrize("api", ["anthropic", "responses", "chat"])
async def test_pictures_reach_the_model(place: Place, provider: Provider, api: str) -> None:
    async with place.agent(provider.url, api) as wire:
        session = await wire.new_session(place.workspace)
        picture = {"type": "image", "mimeType": "image/png", "data": base64.b64encode(b"x" * 100).decode()}
        await wire.turn(session, picture, "What is it?")
        assert "I see 1 picture (image/png, 100 bytes)" in wire.said()

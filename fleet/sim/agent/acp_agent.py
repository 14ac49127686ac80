"""The built-in agent: a real agent of the Agent Client Protocol on standard input and output.

It keeps its sessions in its home, streams what the model says, and runs commands and writes files once that was
allowed. What model it asks: `fleet.sim.agent.model_client.Endpoint.from_environment`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from fleet.host.acp import fast_import  # noqa: F401

# isort: split
import acp
from acp import helpers, schema

from fleet.sim.agent import tools
from fleet.sim.agent.mcp_servers import ServerTools, connected
from fleet.sim.agent.model_api_formats import Finished, ModelError, ReportedTokens, TextDelta, ThoughtDelta
from fleet.sim.agent.model_client import Endpoint, ask
from fleet.sim.agent.session_store import (
    AssistantMessage,
    Sessions,
    StoredSession,
    ToolMessage,
    ToolOutput,
    ToolUse,
    UserMessage,
)

#: A model that never stops calling tools is stopped.
MOST_ROUNDS = 50
CONTEXT_WINDOW = 200_000
OPTIONS = (
    ("allow_always", "Always allow exactly this"),
    ("allow_once", "Allow once"),
    ("reject_once", "Reject"),
)


class SimAgent:
    """Answers the client's requests. One turn at a time per session."""

    def __init__(self, sessions: Sessions) -> None:
        self._store = sessions
        self._sessions: dict[str, StoredSession] = {}
        self._servers: dict[str, list[Any]] = {}
        self._turns: dict[str, asyncio.Task[schema.PromptResponse]] = {}
        self._client: acp.Client

    def on_connect(self, conn: acp.Client) -> None:
        self._client = conn

    async def initialize(self, protocol_version: int, **_: Any) -> schema.InitializeResponse:
        return schema.InitializeResponse(
            protocol_version=min(protocol_version, acp.PROTOCOL_VERSION),
            agent_capabilities=schema.AgentCapabilities(
                load_session=True,
                prompt_capabilities=schema.PromptCapabilities(image=True, audio=False, embedded_context=True),
            ),
            agent_info=schema.Implementation(
                name="muster-sim", title="Muster's built-in agent", version=version("muster-fleet")
            ),
            auth_methods=[],
        )

    async def new_session(self, cwd: str, mcp_servers: list[Any] | None = None, **_: Any) -> schema.NewSessionResponse:
        if not Path(cwd).is_dir():  # noqa: ASYNC240
            raise _refused(f"There is no folder {cwd} to work in.")
        session = self._store.create(cwd)
        self._sessions[session.id] = session
        self._servers[session.id] = mcp_servers or []
        return schema.NewSessionResponse(session_id=session.id)

    async def load_session(
        self, cwd: str, session_id: str, mcp_servers: list[Any] | None = None, **_: Any
    ) -> schema.LoadSessionResponse:
        session = self._store.load(session_id)
        if session is None:
            raise acp.RequestError.resource_not_found(session_id)
        session.cwd = cwd
        self._sessions[session.id] = session
        self._servers[session.id] = mcp_servers or []
        await self._replay(session)
        return schema.LoadSessionResponse()

    async def prompt(self, session_id: str, prompt: list[Any], **_: Any) -> schema.PromptResponse:
        session = self._sessions.get(session_id)
        if session is None:
            raise _refused(f"There is no session {session_id}; create or load it first.")
        if session_id in self._turns:
            raise _refused("A turn is running in this session; wait for its end, or cancel it.")
        turn = asyncio.create_task(self._turn(session, _message(prompt)), name=f"turn of {session_id}")
        self._turns[session_id] = turn
        try:
            await asyncio.wait({turn})
        finally:
            turn.cancel()
            del self._turns[session_id]
        if turn.cancelled():
            return schema.PromptResponse(stop_reason="cancelled")
        try:
            return turn.result()
        except ModelError as error:
            reason = {"status": error.status, "kind": error.kind}
            raise acp.RequestError(-32603, str(error), reason) from None

    async def cancel(self, session_id: str, **_: Any) -> None:
        turn = self._turns.get(session_id)
        if turn is not None:
            turn.cancel()

    async def stop(self) -> None:
        """End the running turns, and with them the commands that they run."""
        turns = list(self._turns.values())
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)

    async def _turn(self, session: StoredSession, message: UserMessage) -> schema.PromptResponse:
        session.messages.append(message)
        self._store.save(session)
        endpoint = Endpoint.from_environment(os.environ)
        try:
            async with connected(self._servers[session.id], session.messages) as theirs:
                return await self._rounds(session, endpoint, theirs)
        except BaseExceptionGroup as group:
            # The tools' connections are held by tasks, which hand on in a group what ended them.
            cause: BaseException = group
            while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
                cause = cause.exceptions[0]
            if isinstance(cause, ModelError):
                raise cause from None
            raise

    async def _rounds(self, session: StoredSession, endpoint: Endpoint, theirs: ServerTools) -> schema.PromptResponse:
        spent: list[ReportedTokens] = []
        for _ in range(MOST_ROUNDS):
            calls, finished = await self._answer(session, endpoint, theirs)
            if finished.spent is not None:
                spent.append(finished.spent)
                used = finished.spent.input + finished.spent.output
                await self._say(
                    session, schema.UsageUpdate(session_update="usage_update", used=used, size=CONTEXT_WINDOW)
                )
            if finished.cut_short:
                session.settle()
                self._store.save(session)
                return schema.PromptResponse(stop_reason="max_tokens", usage=_usage(spent))
            if not calls:
                return schema.PromptResponse(stop_reason="end_turn", usage=_usage(spent))
            await self._use_tools(session, calls, theirs)
        return schema.PromptResponse(stop_reason="max_turn_requests", usage=_usage(spent))

    async def _answer(
        self, session: StoredSession, endpoint: Endpoint, theirs: ServerTools
    ) -> tuple[tuple[ToolUse, ...], Finished]:
        """Ask the model once, and keep what it said even where it breaks off."""
        system = f"You are a coding agent. Your workspace is {session.cwd}."
        offers = (*tools.OFFERS, *theirs.offers)
        text, calls = "", []
        try:
            async with contextlib.aclosing(ask(endpoint, system, session.messages, offers)) as pieces:
                async for piece in pieces:
                    match piece:
                        case TextDelta(delta):
                            text += delta
                            await self._say(session, helpers.update_agent_message_text(delta))
                        case ThoughtDelta(delta):
                            await self._say(session, helpers.update_agent_thought_text(delta))
                        case ToolUse():
                            calls.append(piece)
                        case Finished():
                            if text or calls:
                                session.messages.append(AssistantMessage(text, tuple(calls)))
                                self._store.save(session)
                            return tuple(calls), piece
        except (asyncio.CancelledError, ModelError):
            if text:
                session.messages.append(AssistantMessage(text))
                self._store.save(session)
            raise
        raise AssertionError("`ask` ends with `Finished` or raises")

    async def _use_tools(self, session: StoredSession, calls: tuple[ToolUse, ...], theirs: ServerTools) -> None:
        outputs: list[ToolOutput] = []
        try:
            for call in calls:
                outputs.append(await self._use_tool(session, call, theirs))
        finally:
            # Cancelled or not: a conversation never keeps open calls.
            outputs += [ToolOutput(call.id, "The person cancelled the turn.", True) for call in calls[len(outputs) :]]
            session.messages.append(ToolMessage(tuple(outputs)))
            self._store.save(session)

    async def _use_tool(self, session: StoredSession, call: ToolUse, theirs: ServerTools) -> ToolOutput:
        wrong = None if call.name in theirs else tools.problem(call)
        name = call.name if wrong or call.name in theirs else tools.title(call)
        kind: Any = {"Bash": "execute", "Write": "edit"}.get(call.name, "other")
        await self._say(
            session, helpers.start_tool_call(call.id, name, kind=kind, status="pending", raw_input=call.input)
        )
        try:
            if wrong:
                output = ToolOutput(call.id, wrong, True)
            elif call.name in theirs:
                # The client gave these tools; so it does not ask itself whether they may be used.
                output = await theirs.use(call)
            elif not await self._allowed(session, call, name, kind):
                output = ToolOutput(call.id, "The person did not allow this.", True)
            else:
                await self._say(session, helpers.update_tool_call(call.id, status="in_progress"))
                output = await tools.use(call, Path(session.cwd))
        except asyncio.CancelledError:
            await self._say(session, helpers.update_tool_call(call.id, status="failed"))
            raise
        await self._say(session, _progress(output))
        return output

    async def _allowed(self, session: StoredSession, call: ToolUse, title: str, kind: Any) -> bool:
        if tools.key(call) in session.allowed:
            return True
        asked = schema.ToolCallUpdate(
            tool_call_id=call.id, title=title, kind=kind, status="pending", raw_input=call.input
        )
        options = [schema.PermissionOption(option_id=name, name=text, kind=cast("Any", name)) for name, text in OPTIONS]
        response = await self._client.request_permission(session_id=session.id, tool_call=asked, options=options)
        outcome = response.outcome
        if not isinstance(outcome, schema.AllowedOutcome):
            # The client withdrew the question; a cancel of the turn comes with it.
            return False
        if outcome.option_id == "allow_always":
            session.allowed.add(tools.key(call))
        return outcome.option_id in {"allow_always", "allow_once"}

    async def _replay(self, session: StoredSession) -> None:
        for message in session.messages:
            match message:
                case UserMessage(texts, images):
                    for kind, content in images:
                        await self._say(session, helpers.update_user_message(helpers.image_block(content, kind)))
                    for text in texts:
                        await self._say(session, helpers.update_user_message_text(text))
                case AssistantMessage(text, calls):
                    if text:
                        await self._say(session, helpers.update_agent_message_text(text))
                    for call in calls:
                        name = call.name if tools.problem(call) else tools.title(call)
                        await self._say(session, helpers.start_tool_call(call.id, name, raw_input=call.input))
                case ToolMessage(outputs):
                    for output in outputs:
                        await self._say(session, _progress(output))

    async def _say(self, session: StoredSession, update: Any) -> None:
        await self._client.session_update(session_id=session.id, update=update)


def _progress(output: ToolOutput) -> Any:
    return helpers.update_tool_call(
        output.call,
        status="failed" if output.failed else "completed",
        content=[helpers.tool_content(helpers.text_block(output.text))],
        raw_output={"output": output.text},
    )


def _message(prompt: list[Any]) -> UserMessage:
    texts: list[str] = []
    images: list[tuple[str, str]] = []
    for block in prompt:
        match block:
            case schema.TextContentBlock():
                texts.append(block.text)
            case schema.ImageContentBlock():
                images.append((block.mime_type, block.data))
            case schema.ResourceContentBlock():
                texts.append(f"[{block.name}]({block.uri})")
            case schema.EmbeddedResourceContentBlock() if isinstance(block.resource, schema.TextResourceContents):
                texts.append(f"{block.resource.uri}:\n{block.resource.text}")
            case _:
                raise _refused(f"Content of the type {block.type} cannot be read; text and images can.")
    if not texts and not images:
        raise _refused("The prompt is empty.")
    return UserMessage(tuple(texts), tuple(images))


def _usage(spent: list[ReportedTokens]) -> schema.Usage:
    read, written = sum(s.input for s in spent), sum(s.output for s in spent)
    cached = sum(s.cached for s in spent)
    return schema.Usage(
        input_tokens=read, output_tokens=written, cached_read_tokens=cached, total_tokens=read + written
    )


def _refused(message: str) -> acp.RequestError:
    return acp.RequestError(-32602, message)


async def _serve() -> None:
    agent = SimAgent(Sessions(Path.home() / ".muster-sim" / "sessions"))
    serving = asyncio.create_task(acp.run_agent(cast("acp.Agent", agent)), name="serving")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        pass
    finally:
        await agent.stop()


def main() -> int:
    asyncio.run(_serve())
    return 0

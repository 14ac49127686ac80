"""The Agent Client Protocol as the agent host speaks it, on top of `acp.connection.Connection`.

Requests are built with the protocol's own models. What comes back is read leniently from plain JSON, because runtimes
differ in version and in care, and one odd field must not cost a turn.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from fleet.host.acp import fast_import  # noqa: F401

# isort: split
from collections.abc import Awaitable, Callable, Mapping, Sequence

from acp.connection import Connection
from acp.exceptions import RequestError
from acp.schema import (
    CancelNotification,
    ClientCapabilities,
    CloseSessionRequest,
    ForkSessionRequest,
    ImageContentBlock,
    Implementation,
    InitializeRequest,
    LoadSessionRequest,
    McpServerStdio,
    NewSessionRequest,
    PromptRequest,
    SetSessionConfigOptionSelectRequest,
    SetSessionModeRequest,
    TextContentBlock,
)
from pydantic import BaseModel

from fleet.errors import FleetError
from fleet.host.acp.stdio_transport import StdioTransport
from fleet.host.acp.update_parser import clean, quoted

PROTOCOL_VERSION: Final = 1
_AUTH_REQUIRED: Final = -32000
_METHOD_NOT_FOUND: Final = -32601


class RuntimeTrouble(FleetError):
    """The runtime did not do what the protocol asks of it; the message says what it did instead."""


class LoginNeeded(RuntimeTrouble):
    """The runtime wants its user to log in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeCapabilities:
    load_session: bool
    images: bool
    close_session: bool
    """Whether it can be told that a session is over for now, and puts it away then."""
    fork_session: bool
    """Whether it can begin a session as a copy of another."""
    version: str | None = None
    """The runtime's own, as it says; None: it does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcpSession:
    id: str
    model_option: str | None
    """The configuration option that names the model (category ``model``)."""
    mode: str | None
    """The mode that the session is in, where the runtime has modes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEnd:
    stop_reason: str
    usage: Any = None
    detail: str | None = None


class AcpClient:
    """One connection to one runtime.

    Args:
        on_update: called with the session and the update of each ``session/update``, in the order of arrival.
        on_permission: answers ``session/request_permission`` with an option's id, or None for "cancelled".
    """

    def __init__(
        self,
        transport: StdioTransport,
        *,
        on_update: Callable[[str, dict[str, Any]], None],
        on_permission: Callable[[str, dict[str, Any], Any], Awaitable[str | None]],
    ) -> None:
        self._on_update = on_update
        self._on_permission = on_permission
        self._connection = Connection(self._handle, transport)

    async def initialize(self) -> RuntimeCapabilities:
        """Agree on the protocol's version.

        Raises:
            RuntimeTrouble: the runtime speaks another version, or answers with nonsense.
        """
        answer = await self._request(
            "initialize",
            InitializeRequest(
                protocol_version=PROTOCOL_VERSION,
                client_capabilities=ClientCapabilities(),
                client_info=Implementation(name="muster", title="Muster", version=version("muster-fleet")),
            ),
        )
        spoken = answer.get("protocolVersion")
        if spoken != PROTOCOL_VERSION:
            found = spoken if isinstance(spoken, int) else quoted(json.dumps(spoken), 100)
            raise RuntimeTrouble(
                f"The runtime speaks version {found} of the Agent Client Protocol; Muster speaks {PROTOCOL_VERSION}."
            )
        capabilities = _dict(answer.get("agentCapabilities"))
        prompts = _dict(capabilities.get("promptCapabilities"))
        sessions = _dict(capabilities.get("sessionCapabilities"))
        return RuntimeCapabilities(
            load_session=capabilities.get("loadSession") is True,
            images=prompts.get("image") is True,
            close_session=isinstance(sessions.get("close"), dict),
            fork_session=isinstance(sessions.get("fork"), dict),
            version=_short(_dict(answer.get("agentInfo")).get("version")),
        )

    async def new_session(
        self, cwd: str, meta: Mapping[str, Any], servers: Sequence[Mapping[str, Any]] = ()
    ) -> AcpSession:
        """Begin a session; `meta` is for this runtime alone (``_meta``), `servers` are its MCP servers."""
        request = NewSessionRequest(cwd=cwd, mcp_servers=_servers(servers), field_meta=dict(meta) or None)
        answer = await self._request("session/new", request)
        return _session(_new_id(answer), answer)

    async def fork_session(self, cwd: str, session: str, meta: Mapping[str, Any]) -> AcpSession:
        """Begin a session as a copy of another one, without MCP servers. The other one is not changed.

        Raises:
            RuntimeTrouble: the runtime answered with an error, or is gone.
        """
        request = ForkSessionRequest(cwd=cwd, session_id=session, mcp_servers=[], field_meta=dict(meta) or None)
        answer = await self._request("session/fork", request)
        return _session(_new_id(answer), answer)

    async def load_session(
        self, cwd: str, session: str, meta: Mapping[str, Any], servers: Sequence[Mapping[str, Any]] = ()
    ) -> AcpSession:
        request = LoadSessionRequest(
            cwd=cwd, session_id=session, mcp_servers=_servers(servers), field_meta=dict(meta) or None
        )
        return _session(session, await self._request("session/load", request, empty=True))

    async def set_mode(self, session: AcpSession, mode: str) -> None:
        request = SetSessionModeRequest(session_id=session.id, mode_id=mode)
        await self._request("session/set_mode", request, empty=True)

    async def set_model(self, session: AcpSession, model: str) -> None:
        """Choose the model: by the session's configuration option, or the way that older runtimes know."""
        if session.model_option is not None:
            option = SetSessionConfigOptionSelectRequest(
                session_id=session.id, config_id=session.model_option, value=model
            )
            await self._request("session/set_config_option", option, empty=True)
        else:
            await self._request("session/set_model", {"sessionId": session.id, "modelId": model}, empty=True)

    async def prompt(self, session: str, text: list[str], images: list[tuple[str, str]]) -> PromptEnd:
        """Run one turn. `images` are media type and base64 content.

        Raises:
            RuntimeTrouble: the runtime answered with an error.
        """
        blocks: list[Any] = [TextContentBlock(type="text", text=part) for part in text]
        blocks.extend(ImageContentBlock(type="image", mime_type=kind, data=content) for kind, content in images)
        answer = await self._request("session/prompt", PromptRequest(session_id=session, prompt=blocks), empty=True)
        reason = answer.get("stopReason")
        if not isinstance(reason, str):
            return PromptEnd(stop_reason="error", detail="The runtime ended the turn without saying why.")
        return PromptEnd(stop_reason=clean(reason)[:100], usage=answer.get("usage"))

    async def cancel(self, session: str) -> None:
        await self._connection.send_notification("session/cancel", _wire(CancelNotification(session_id=session)))

    async def close_session(self, session: str) -> None:
        """Have the runtime put the session away; it can be loaded again.

        Raises:
            RuntimeTrouble: the runtime answered with an error, or is gone.
        """
        await self._request("session/close", CloseSessionRequest(session_id=session), empty=True)

    async def ping(self) -> None:
        """Come back when the runtime's loop has answered, with whatever it answers to a name that it cannot know.

        Raises:
            ConnectionError: the runtime is gone.
        """
        try:
            await self._connection.send_request("_muster/ping", {})
        except RequestError:
            return
        except OSError as error:
            raise ConnectionError(str(error)) from None

    async def close(self) -> None:
        await self._connection.close()

    async def _request(self, method: str, params: BaseModel | dict[str, Any], empty: bool = False) -> dict[str, Any]:
        try:
            answer = await self._connection.send_request(method, params if isinstance(params, dict) else _wire(params))
        except RequestError as error:
            raise _trouble(method, error) from None
        except OSError:
            raise RuntimeTrouble(f"The runtime went away during {method}.") from None
        if isinstance(answer, dict):
            return answer
        if empty and answer is None:
            return {}
        raise RuntimeTrouble(f"The runtime answered {method} with something that is no object.")

    async def _handle(self, method: str, params: Any, is_notification: bool) -> Any:
        params = _dict(params)
        if method == "session/update" and is_notification:
            self._on_update(str(params.get("sessionId")), _dict(params.get("update")))
            return None
        if method == "session/request_permission" and not is_notification:
            option = await self._on_permission(
                str(params.get("sessionId")), _dict(params.get("toolCall")), params.get("options")
            )
            if option is None:
                return {"outcome": {"outcome": "cancelled"}}
            return {"outcome": {"outcome": "selected", "optionId": option}}
        if is_notification:
            return None
        raise RequestError(_METHOD_NOT_FOUND, "Method not found", {"method": clean(method)[:200]})


def _trouble(method: str, error: RequestError) -> RuntimeTrouble:
    if error.code == _AUTH_REQUIRED:
        return LoginNeeded("The runtime wants a login.")
    said = str(error)
    extra = error.data
    if isinstance(extra, dict):
        extra = extra.get("details") or extra.get("message")
    if isinstance(extra, str) and extra and extra not in said:
        said = f"{said}: {extra}"
    return RuntimeTrouble(f"The runtime answered {method} with an error: {quoted(said)}")


def _new_id(answer: dict[str, Any]) -> str:
    id_ = answer.get("sessionId")
    if not isinstance(id_, str) or not id_ or len(id_) > 1000 or clean(id_) != id_:
        raise RuntimeTrouble("The runtime began a session without giving it an id.")
    return id_


def _session(id_: str, answer: dict[str, Any]) -> AcpSession:
    mode = _dict(answer.get("modes")).get("currentModeId")
    return AcpSession(id=id_, model_option=_model_option(answer), mode=mode if isinstance(mode, str) else None)


def _model_option(answer: dict[str, Any]) -> str | None:
    options = answer.get("configOptions")
    for option in options if isinstance(options, list) else ():
        if isinstance(option, dict) and option.get("category") == "model" and isinstance(option.get("id"), str):
            return str(option["id"])
    return None


def _servers(servers: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [McpServerStdio.model_validate(dict(server)) for server in servers]


def _wire(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _short(value: object) -> str | None:
    """Return a name that a runtime gives, in one short line; None if it is none."""
    return " ".join(value.split())[:100] or None if isinstance(value, str) else None

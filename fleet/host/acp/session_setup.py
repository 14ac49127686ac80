"""Getting a runtime ready: agree on the protocol, go on with the session or begin one, choose the model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fleet.control.host_spec import AgentSpec
from fleet.host.acp.acp_client import AcpClient, AcpSession, LoginNeeded, RuntimeTrouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Established:
    """A runtime that takes prompts."""

    session: str
    loaded: bool
    images: bool
    closable: bool
    """Whether the runtime puts a session away when it is told to."""
    forks: bool
    """Whether the runtime can begin a session as a copy of another."""
    note: str | None
    version: str | None = None
    """The runtime's own."""


async def establish(
    client: AcpClient, spec: AgentSpec, known: str | None, *, taken_over: bool = False, goes_on: bool = False
) -> Established:
    """Get `client` to the point where it takes prompts.

    Args:
        known: the session that the journal knows, if there was one.
        taken_over: whether it is a person's, which is loaded or nothing.
        goes_on: whether this agent host had the session before, so that it goes on whatever the specification says.

    Raises:
        RuntimeTrouble: it does not get there; the message says why and, where it can, what to do.
    """
    try:
        capabilities = await client.initialize()
        session, loaded, note = await _session(
            client, spec, known, can_load=capabilities.load_session, taken_over=taken_over, goes_on=goes_on
        )
    except LoginNeeded as error:
        raise LoginNeeded(f"{error} Run `muster login {spec.runtime}` in a shell, then restart the agent.") from None
    await _choose(client, spec, session)
    return Established(
        session=session.id,
        loaded=loaded,
        images=capabilities.images,
        closable=capabilities.close_session,
        forks=capabilities.fork_session,
        note=note,
        version=capabilities.version,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AsideSession:
    """A session beside the agent's own."""

    id: str
    forked: bool
    """Whether it is a copy of the agent's own; otherwise it is empty."""


async def establish_aside(
    client: AcpClient, spec: AgentSpec, ready: Established, known: Collection[str]
) -> AsideSession:
    """Begin a session that has the runtime's reading tools only, where it can be told so, and no MCP server.

    It is a fork of the agent's session. If the runtime cannot fork, or the fork fails, it is a new one.

    Args:
        known: sessions that the agent has or had. None of them may be taken for a new one.

    Raises:
        RuntimeTrouble: the runtime begins none, or gives one that is the agent's own.
    """
    forked = False
    session: AcpSession | None = None
    if ready.forks:
        try:
            session = await client.fork_session(spec.cwd, ready.session, spec.aside_meta)
            forked = session.id not in known
        except LoginNeeded:
            raise
        except RuntimeTrouble:
            pass  # As before the first turn, when there is nothing to copy.
    if session is None or not forked:
        session = await client.new_session(spec.cwd, spec.aside_meta)
    if session.id in known:
        raise RuntimeTrouble("The runtime gave the agent's own session instead of a new one.")
    await _choose(client, spec, session)
    return AsideSession(id=session.id, forked=forked)


async def _choose(client: AcpClient, spec: AgentSpec, session: AcpSession) -> None:
    if spec.session_mode is not None and session.mode != spec.session_mode:
        # How a runtime asks for permission is not for a project's settings to choose.
        try:
            await client.set_mode(session, spec.session_mode)
        except RuntimeTrouble as error:
            raise RuntimeTrouble(f"The runtime's mode {spec.session_mode!r} could not be chosen. {error}") from None
    if spec.models == "session" and spec.model:
        try:
            await client.set_model(session, spec.model)
        except RuntimeTrouble as error:
            raise RuntimeTrouble(f"The model {spec.model!r} could not be chosen. {error}") from None


async def _session(
    client: AcpClient, spec: AgentSpec, known: str | None, *, can_load: bool, taken_over: bool, goes_on: bool
) -> tuple[AcpSession, bool, str | None]:
    if known is not None and taken_over:
        if not can_load:
            raise RuntimeTrouble("This runtime cannot go on in a conversation that was begun elsewhere.")
        try:
            return await client.load_session(spec.cwd, known, spec.session_meta, spec.mcp_servers), True, None
        except LoginNeeded:
            raise
        except RuntimeTrouble as error:
            raise RuntimeTrouble(f"The conversation {known} could not be loaded. {error}") from None
    if known is None or not (spec.resume_session or goes_on):
        return await client.new_session(spec.cwd, spec.session_meta, spec.mcp_servers), False, None
    if not can_load:
        note = "This runtime does not keep conversations, so the earlier one could not be loaded."
        return await client.new_session(spec.cwd, spec.session_meta, spec.mcp_servers), False, note
    try:
        return await client.load_session(spec.cwd, known, spec.session_meta, spec.mcp_servers), True, None
    except LoginNeeded:
        raise
    except RuntimeTrouble as error:
        return (
            await client.new_session(spec.cwd, spec.session_meta, spec.mcp_servers),
            False,
            f"The earlier conversation could not be loaded. {error}",
        )

"""Getting a runtime ready: agree on the protocol, go on with the session or begin one, choose the model."""

from __future__ import annotations

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
    note: str | None


async def establish(client: AcpClient, spec: AgentSpec, known: str | None, *, taken_over: bool = False) -> Established:
    """Get `client` to the point where it takes prompts.

    Args:
        known: the session that the journal knows, if there was one.
        taken_over: whether it is a person's, which is loaded or nothing.

    Raises:
        RuntimeTrouble: it does not get there; the message says why and, where it can, what to do.
    """
    try:
        capabilities = await client.initialize()
        session, loaded, note = await _session(
            client, spec, known, can_load=capabilities.load_session, taken_over=taken_over
        )
    except LoginNeeded as error:
        raise LoginNeeded(f"{error} Run `muster login {spec.runtime}` in a shell, then restart the agent.") from None
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
    return Established(
        session=session.id,
        loaded=loaded,
        images=capabilities.images,
        closable=capabilities.close_session,
        note=note,
    )


async def _session(
    client: AcpClient, spec: AgentSpec, known: str | None, *, can_load: bool, taken_over: bool
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
    if known is None or not spec.resume_session:
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

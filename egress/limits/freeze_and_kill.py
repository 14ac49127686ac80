"""Freezing and killing an agent from outside, even if it does not cooperate.

First the egress asks the agent host over its control socket (docs/reference/control-protocol.md). The host ends every
process of the runtime and journals that. If it does not answer, the egress kills every process with the agent's marker,
and the agent host as well. Both ways keep workspace and conversation. The orchestrator decides whether to resume the
conversation (freeze) or give it up (kill), from the actions in the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import structlog

from core.errors import MusterError
from core.safe_stream_write import send
from egress.ledger.model import LedgerUnwritable
from egress.ledger.service import UsageLedger
from egress.settings import AgentRegistration

_log = structlog.get_logger(__name__)

#: A healthy agent host answers its socket in milliseconds; ending a runtime takes longer.
ANSWER_S: Final = 2.0
END_S: Final = 15.0
_VARIABLE: Final = b"MUSTER_AGENT="
#: The module name on an agent host's command line.
_AGENT_HOST: Final = b"fleet.host.process"
_LINE_LIMIT: Final = 16 * 2**20
_ROUNDS: Final = 100
_PAUSE_S: Final = 0.02
_PEER: Final = struct.Struct("3i")


class HostUnanswered(MusterError):
    """The agent host did not do what the egress asked for."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid
        """Of who listens at the control socket, as far as the kernel said."""


class Unkillable(MusterError):
    """Some processes of the agent are still running."""


class Enforcer:
    """Runs freezes and kills in the background, and writes their results to the audit.

    Args:
        ledger: the ledger with the audit.
        enforce: performs an enforcement (agent, action, cause), and returns a description of the result.
    """

    def __init__(self, ledger: UsageLedger, enforce: Callable[[AgentRegistration, str, str], Awaitable[str]]) -> None:
        self._ledger = ledger
        self._enforce = enforce
        self._tasks: set[asyncio.Task[None]] = set()

    def soon(
        self,
        registration: AgentRegistration,
        action: str,
        cause: str,
        by: str,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Start an enforcement and return at once. `detail` is for the audit."""
        name = f"{action} {registration.agent}"
        task = asyncio.get_running_loop().create_task(self._do(registration, action, cause, by, detail), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for all started enforcements."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _do(
        self, registration: AgentRegistration, action: str, cause: str, by: str, detail: Mapping[str, Any] | None
    ) -> None:
        try:
            result = await self._enforce(registration, action, cause)
        except Exception as error:
            _log.exception("enforcement_failed", agent=registration.agent, action=action)
            result = f"failed: {error}"
        with contextlib.suppress(LedgerUnwritable):
            await self._ledger.act(registration.agent, action, cause=cause, by=by, result=result, detail=detail)


async def enforce(
    registration: AgentRegistration, action: str, cause: str, *, answer_s: float = ANSWER_S, end_s: float = END_S
) -> str:
    """Stop an agent and describe the result. Every process of its runtime has ended when this returns.

    Args:
        registration: the agent's registration.
        action: ``freeze`` or ``kill``; for the agent host's journal.
        cause: the reason, for the journal.
        answer_s: how long to wait for the agent host's first answer before killing its processes.
        end_s: how long to wait for the agent host to end the runtime before killing its processes.

    Raises:
        Unkillable: some processes survived, or no marker was known to find them by.
    """
    try:
        await _ask(registration, f"{action}: {cause}", answer_s, end_s)
    except HostUnanswered as error:
        count = await asyncio.to_thread(end_marked, registration.marker, error.pid)
        return f"{error} {count} processes were killed."
    return "Its agent host has ended it."


async def _ask(registration: AgentRegistration, reason: str, answer_s: float, end_s: float) -> None:
    if not registration.control_socket:
        raise HostUnanswered("No agent host is known.")
    pid: int | None = None
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(answer_s):
            reader, writer = await asyncio.open_unix_connection(registration.control_socket, limit=_LINE_LIMIT)
            pid, uid = _peer(writer.get_extra_info("socket"))
            if uid not in (os.geteuid(), 0):
                raise HostUnanswered("What listens at its control socket is another user's.")
            hello = await _request(reader, writer, 1, "hello", {"protocol": 1})
            if hello.get("agent") != registration.agent:
                raise HostUnanswered("What listens at its control socket is another agent's host.")
        async with asyncio.timeout(end_s):
            await _request(reader, writer, 2, "shutdown", {"now": True, "reason": reason[:1000]})
    except TimeoutError:
        raise HostUnanswered("Its agent host did not answer in time.", pid) from None
    except EOFError:
        # The agent host closes its socket last: either it has finished, or it died and the sweep finds what remains.
        raise HostUnanswered("Its agent host closed the connection.", pid) from None
    except (OSError, ValueError) as error:
        raise HostUnanswered(f"Its agent host could not be asked ({error}).", pid) from None
    finally:
        if writer is not None:
            writer.transport.abort()


async def _request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, id_: int, method: str, params: dict[str, Any]
) -> dict[str, Any]:
    send(writer, json.dumps({"id": id_, "method": method, "params": params}).encode("ascii") + b"\n")
    await writer.drain()
    while True:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer = json.loads(line)
        if not isinstance(answer, dict) or answer.get("id") != id_:
            continue
        if "error" in answer:
            error = answer["error"]
            raise HostUnanswered(f"Its agent host refused ({error.get('code') if isinstance(error, dict) else error}).")
        result = answer.get("result")
        return result if isinstance(result, dict) else {}


def _peer(sock: Any) -> tuple[int | None, int | None]:
    """Return the process and the user that listen at the other end (unix(7), SO_PEERCRED)."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None, os.geteuid()
    pid, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _PEER.size))
    return pid, uid


# --- by signals -------------------------------------------------------------------------------------------------------


def end_marked(marker: str, agent_host: int | None = None) -> int:
    """Kill every process with the marker, their descendants, and the agent host, and return how many there were.

    Each round stops all processes before it kills any, so that none can start another in between. Two rounds must find
    nothing, because a process is invisible for an instant during exec. A descriptor pins each process before the check,
    so that a reused process id is never hit.

    Raises:
        Unkillable: some processes survived, or there is no marker to find them by.
    """
    if not marker:
        raise Unkillable("Nothing is known by which its processes could be found. Look for them with ps.")
    met: set[int] = set()
    clean = False
    left: dict[int, int] = {}
    for _ in range(_ROUNDS):
        left = _held(marker, agent_host)
        try:
            if not left and clean:
                return len(met)
            clean = not left
            _signal(left.values(), signal.SIGSTOP)
            more = _held(marker, agent_host, but=left)
            left |= more
            _signal(left.values(), signal.SIGKILL)
            met.update(left)
        finally:
            for descriptor in left.values():
                os.close(descriptor)
        time.sleep(_PAUSE_S)
    raise Unkillable(f"Processes {', '.join(map(str, sorted(left)))} of the agent would not end. Look at them with ps.")


def _held(marker: str, agent_host: int | None, but: Iterable[int] = ()) -> dict[int, int]:
    """Return the living processes of an agent, by process id, each with a descriptor that pins this very process."""
    wanted = _VARIABLE + os.fsencode(marker)
    seen = {
        int(name): stat
        for name in os.listdir("/proc")
        if name.isdigit() and int(name) != os.getpid() and (stat := _stat(name)) is not None
    }
    found = {pid for pid in seen if _is_marked(pid, wanted) or (pid == agent_host and _is_agent_host(pid))}
    while more := {pid for pid, (parent, _) in seen.items() if parent in found and pid not in found}:
        found |= more
    held: dict[int, int] = {}
    for pid in found.difference(but):
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            if _stat(str(pid)) == seen[pid] or _is_marked(pid, wanted):
                held[pid] = descriptor
            else:
                os.close(descriptor)
    return held


def _is_marked(pid: int, wanted: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return wanted in file.read().split(b"\0")
    except OSError:
        return False


def _is_agent_host(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return _AGENT_HOST in file.read().split(b"\0")
    except OSError:
        return False


def _stat(pid: str) -> tuple[int, int] | None:
    """Return a process's parent and start time, or None if it is not alive (proc(5), /proc/PID/stat)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return (int(fields[1]), int(fields[19])) if len(fields) > 19 and fields[0] not in (b"Z", b"X") else None


def _signal(descriptors: Iterable[int], number: signal.Signals) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(descriptor, number)

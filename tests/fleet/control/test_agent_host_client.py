"""The orchestrator's side against agent hosts of other versions, broken ones, and none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.control.agent_host_client import AgentLink, HostStatus
from fleet.errors import AgentRefused, AgentUnreachable
from fleet.journal.events import JournalEntry, JournalPosition, Unknown
from tests.fleet.host.scripted_agent import LIMIT_S

HELLO = {"protocol": 1, "agent": "coder0", "launch_id": "l", "incarnation": 3, "pid": 7, "version": "9", "later": True}


@asynccontextmanager
async def host(path: Path, *answers: Any, hello: Any = HELLO) -> AsyncIterator[None]:
    """An agent host that gives these answers, in order, whatever is asked; bytes go out as they are."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in ({"result": hello}, *answers):
            line = await reader.readline()
            if not line:
                break
            content = (
                answer if isinstance(answer, bytes) else json.dumps({"id": json.loads(line)["id"], **answer}).encode()
            )
            writer.write(content + b"\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    async with server:
        yield


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(AgentUnreachable, match="No agent host answers"):
        await AgentLink.connect(tmp_path / "s")


async def test_a_newer_host_is_understood_as_far_as_it_goes(tmp_path: Path) -> None:
    status = {"state": "dreaming", "position": {"incarnation": 3, "seq": 9}, "later": [1]}
    async with (
        host(tmp_path / "s", {"result": status}, hello={**HELLO, "protocol": 7}),
        asyncio.timeout(LIMIT_S),
        await AgentLink.connect(tmp_path / "s") as link,
    ):
        assert link.hello.protocol == 7
        assert await link.status() == HostStatus(state="dreaming", position=JournalPosition(3, 9))


async def test_a_host_that_is_too_old_offers_the_way_out(tmp_path: Path) -> None:
    async with host(tmp_path / "s", hello={**HELLO, "protocol": 0}):
        with pytest.raises(AgentRefused, match=r"coder0 speaks version 0 .* Restart the agent") as refused:
            await AgentLink.connect(tmp_path / "s")
        assert refused.value.refusal == "protocol"


@pytest.mark.parametrize("hello", [{}, {"protocol": "x"}, 5])
async def test_what_is_no_agent_host_is_refused(tmp_path: Path, hello: Any) -> None:
    async with host(tmp_path / "s", hello=hello):
        with pytest.raises(AgentRefused, match="no agent host"):
            await AgentLink.connect(tmp_path / "s")


async def test_a_refusal_keeps_its_code_and_sentence(tmp_path: Path) -> None:
    over = {"error": {"code": "too_late", "message": "Over."}}
    async with host(tmp_path / "s", over), await AgentLink.connect(tmp_path / "s") as link:
        with pytest.raises(AgentRefused, match="Over") as refused:
            await link.withdraw("m")
        assert refused.value.refusal == "too_late"


@pytest.mark.parametrize("answer", [b"garbage", b"[]", b'{"id": 2, "resu', b"[" * 60_000])
async def test_garbage_or_an_end_in_the_middle_is_unreachable(tmp_path: Path, answer: bytes) -> None:
    async with (
        host(tmp_path / "s", answer),
        asyncio.timeout(LIMIT_S),
        await AgentLink.connect(tmp_path / "s") as link,
    ):
        for _ in range(2):
            with pytest.raises(AgentUnreachable):
                await link.status()


async def test_following_passes_over_what_it_does_not_understand(tmp_path: Path) -> None:
    lines = [
        {"entry": {"incarnation": 1, "seq": 1, "at": 1.0, "kind": "levitated", "height": 3}},
        {"entry": {"incarnation": 1}},
        {"entry": 5},
        {"what": 1},
        {"status": {"state": "idle"}},
    ]
    content = b"\n".join([b'{"id": 0, "result": {}}', *(json.dumps(line).encode() for line in lines)])
    async with host(tmp_path / "s", content), asyncio.timeout(LIMIT_S):
        link = await AgentLink.connect(tmp_path / "s")
        items = [item async for item in link.follow(JournalPosition())]
        await link.aclose()
    event = Unknown(kind="levitated", fields={"height": 3})
    assert items == [JournalEntry(position=JournalPosition(1, 1), at=1.0, event=event), HostStatus(state="idle")]

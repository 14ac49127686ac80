"""From what is wanted of an agent to what its host is told, where agents and folders are hostile."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
from pathlib import Path

import pytest

from database.queries.agents.agents import AgentRow
from fleet.errors import FleetError
from fleet.supervision import host_lifecycle
from tests.fleet.runtimes.test_kept_sessions import claude
from tests.fleet.sandbox.test_egress_grant import assembly


def wanted(workspace: Path, sandbox: str = "bubblewrap") -> AgentRow:
    return AgentRow(
        name="coder0", role="coder", runtime="sim", model=None, sandbox=sandbox, workspace=str(workspace),
        wanted="running", at_once=False, keep_session=True, state="starting", detail=None, launch_id="l1",
        launched_by="memory:@ana", connector="memory", room="room", thread_key="th/l1", started_at=0.0, stopped_at=None,
    )  # fmt: skip


@pytest.mark.parametrize("target", ["muster", "somebody's"])
def test_a_workspace_that_became_a_link_is_not_opened_to_the_agent(tmp_path: Path, target: str) -> None:
    made = assembly(tmp_path, None)
    (tmp_path / target).mkdir(exist_ok=True)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "part").symlink_to(tmp_path / target)
    with pytest.raises(FleetError, match="is a link to"):
        made.spec(wanted(tmp_path / "project" / "part"), 0, ())


def test_a_workspace_is_deleted_whatever_the_agent_closed_in_it(tmp_path: Path) -> None:
    made = assembly(tmp_path, None)
    workspace = tmp_path / "muster" / "workspaces" / "coder0"
    (workspace / "closed" / "deep").mkdir(parents=True)
    (workspace / "closed" / "deep" / "file").write_text("x")
    outside = tmp_path / "outside"
    outside.write_text("stays")
    (workspace / "closed" / "link").symlink_to(outside)
    place = workspace
    for _ in range(1200):
        place = place / "d"
        os.mkdir(place)
    os.chmod(workspace / "closed" / "deep", 0)
    os.chmod(workspace / "closed", 0)
    assert made.discard_workspace(workspace, "coder0")
    assert not workspace.exists()
    assert outside.read_text() == "stays"


def test_a_workspace_that_muster_did_not_make_is_never_deleted(tmp_path: Path) -> None:
    made = assembly(tmp_path, None)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert not made.discard_workspace(elsewhere, "coder0")
    assert elsewhere.is_dir()


def test_a_link_in_the_place_of_a_workspace_is_not_followed_by_deleting(tmp_path: Path) -> None:
    made = assembly(tmp_path, None)
    workspace = tmp_path / "muster" / "workspaces" / "coder0"
    workspace.parent.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    workspace.symlink_to(elsewhere)
    with pytest.raises(FleetError, match="by hand"):
        made.discard_workspace(workspace, "coder0")
    assert elsewhere.is_dir()
    shutil.rmtree(elsewhere)


def test_a_conversation_of_the_persons_is_brought_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    person = tmp_path / "person"
    monkeypatch.setenv("HOME", str(person))
    program = tmp_path / "bin" / "claude-agent-acp"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    session, file = claude(person, "hello")
    made = assembly(tmp_path, None)
    workspace = tmp_path / "muster" / "workspaces" / "coder0"
    basis = {"said": {"session": session}}
    row = dataclasses.replace(wanted(workspace, "none"), runtime="claude", basis=basis)
    spec = made.spec(row, 0, ())
    assert spec.taken_over == session
    (copy,) = made.folder("coder0").glob(f"home/.claude/projects/*/{session}.jsonl")
    assert copy.read_bytes() == file.read_bytes()
    # From then on it is the agent's, whatever the person does with theirs.
    copy.unlink()
    file.unlink()
    assert made.spec(row, 0, ()).taken_over == session
    assert not copy.exists()
    other = dataclasses.replace(row, basis={"said": {"session": "00000000-0000-0000-0000-000000000000"}})
    with pytest.raises(FleetError, match="keeps no conversation"):
        made.spec(other, 0, ())


async def test_only_so_many_agent_hosts_start_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataclasses.replace(assembly(tmp_path, None), starting=asyncio.Semaphore(2))
    under_way = most = 0
    go_on = asyncio.Event()

    async def spawn(spec: object) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await go_on.wait()
        under_way -= 1

    monkeypatch.setattr(host_lifecycle, "spawn", spawn)
    workspace = tmp_path / "muster" / "workspaces" / "coder0"
    workspace.mkdir(parents=True)
    starts = [asyncio.ensure_future(made.start(wanted(workspace), floor=0, grants=())) for _ in range(6)]
    async with asyncio.timeout(30):
        while under_way < 2:
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*starts)
    assert most == 2
    assert assembly(tmp_path, None).starting is not made.starting, "each Muster has its own"

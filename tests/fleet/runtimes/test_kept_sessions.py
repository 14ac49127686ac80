"""Conversations of a person's are found and copied, whatever lies among them."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import FleetError
from fleet.runtimes import kept_sessions
from fleet.runtimes.kept_sessions import UnknownSession


def write(path: Path, *entries: Any, at: float = 1_000.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    os.utime(path, (at, at))
    return path


def claude(home: Path, words: Any, *, at: float = 1_000.0, cwd: str = "/home/ana/web") -> tuple[str, Path]:
    """A conversation as Claude Code keeps it. Returns its id and its file."""
    id_ = str(uuid.uuid4())
    path = home / ".claude" / "projects" / "-home-ana-web" / f"{id_}.jsonl"
    entries = (
        {"type": "summary", "summary": "x"},
        {"type": "user", "isMeta": True, "message": {"role": "user", "content": "meta"}, "cwd": cwd},
        {"type": "user", "message": {"role": "user", "content": "<command-name>/clear</command-name>"}, "cwd": cwd},
        {"type": "user", "message": {"role": "user", "content": words}, "cwd": cwd, "sessionId": id_},
        {"type": "user", "message": {"role": "user", "content": "later"}, "cwd": cwd},
    )
    return id_, write(path, *entries, at=at)


def codex(home: Path, words: str) -> tuple[str, Path]:
    """A conversation as Codex keeps it. Returns its id and its file."""
    id_ = str(uuid.uuid4())
    path = home / ".codex/sessions/2026/11/25" / f"rollout-2026-11-25T12-00-00-{id_}.jsonl"
    meta = {"type": "session_meta", "payload": {"id": id_, "cwd": "/home/ana/web"}}
    context, said = ({"type": "input_text", "text": text} for text in ("<environment_context>", words))
    messages = (
        {"type": "response_item", "payload": {"type": "message", "role": role, "content": [content]}}
        for role, content in (("developer", said), ("user", context), ("user", said))
    )
    return id_, write(path, meta, *messages)


def pi(home: Path, words: str) -> tuple[str, Path]:
    """A conversation as pi keeps it. Returns its id and its file."""
    id_ = str(uuid.uuid4())
    path = home / ".pi/agent/sessions/--home-ana-web--" / f"2026-11-25T12-00-00-123Z_{id_}.jsonl"
    header = {"type": "session", "version": 3, "id": id_, "cwd": "/home/ana/web"}
    messages = (
        {"type": "message", "message": {"role": role, "content": [{"type": "text", "text": text}]}}
        for role, text in (("system", "be kind"), ("user", words), ("user", "later"))
    )
    return id_, write(path, header, *messages)


def test_the_newest_are_listed_first_with_what_they_began_with(tmp_path: Path) -> None:
    old, _ = claude(tmp_path, "the old one", at=1.0)
    new, _ = claude(tmp_path, [{"type": "image"}, {"type": "text", "text": "the new one"}], at=2.0)
    found, whole = kept_sessions.listed("claude", tmp_path, {})
    assert whole
    assert [(each.id, each.at, each.folder, each.words) for each in found] == [
        (new, 2.0, "/home/ana/web", "the new one"),
        (old, 1.0, "/home/ana/web", "the old one"),
    ]
    third, _ = codex(tmp_path, "in codex")
    found, _ = kept_sessions.listed("codex", tmp_path, {})
    assert [(each.id, each.folder, each.words) for each in found] == [(third, "/home/ana/web", "in codex")]
    fourth, _ = pi(tmp_path, "in pi")
    found, _ = kept_sessions.listed("pi", tmp_path, {})
    assert [(each.id, each.folder, each.words) for each in found] == [(fourth, "/home/ana/web", "in pi")]
    elsewhere = {"CODEX_HOME": str(tmp_path / "none")}
    assert kept_sessions.listed("codex", tmp_path, elsewhere) == ([], True)
    with pytest.raises(UnknownSession, match="where opencode keeps conversations"):
        kept_sessions.listed("opencode", tmp_path, {})


def test_what_is_no_conversation_is_left_out_and_hurts_nobody(tmp_path: Path) -> None:
    good, file = claude(tmp_path, "good")
    folder = file.parent

    def name() -> Path:
        return folder / f"{uuid.uuid4()}.jsonl"

    secret = tmp_path / "secret"
    secret.write_text('{"cwd": "s3cret"}')
    name().symlink_to(secret)
    (folder.parent / "linked").symlink_to(folder)
    os.mkfifo(name())
    name().mkdir()
    name().write_bytes(b"")
    (folder / "notes.jsonl").write_text("{}")
    (folder / f"agent-{uuid.uuid4()}.jsonl").write_text("{}")
    hostile = {
        name(): b"[" * 200_000,
        name(): b"\xff\xfe not text\n\0\n",
        name(): b'{"cwd": ["x"], "type": "user", "message": "x"}\n{"type": "user", "message": {"content": [1, null]}}',
        name(): b'{"cwd": 1' + b"0" * 5_000 + b"}",
        name(): b'{"cwd": "' + b"x" * 400_000 + b'"}',
    }
    for path, content in hostile.items():
        path.write_bytes(content)
        os.utime(path, (1, 1))
    found, whole = kept_sessions.listed("claude", tmp_path, {})
    assert whole
    assert found[0].id == good
    assert {each.file for each in found[1:]} == set(hostile)
    assert all(each.folder is None and each.words == "" for each in found[1:])


def test_what_is_listed_has_an_end(tmp_path: Path) -> None:
    for number in range(kept_sessions.MOST + 5):
        claude(tmp_path, f"number {number}", at=float(number))
    found, whole = kept_sessions.listed("claude", tmp_path, {})
    assert not whole
    assert len(found) == kept_sessions.MOST
    assert found[0].words == f"number {kept_sessions.MOST + 4}"


def test_a_conversation_is_copied_to_where_its_runtime_looks_and_never_over_what_is_there(tmp_path: Path) -> None:
    person, home, cwd = tmp_path / "person", tmp_path / "home", tmp_path / "work_space.x"
    home.mkdir()
    id_, file = claude(person, "hello")
    kept_sessions.take_over("claude", kept_sessions.find("claude", id_, person, {}), home=home, cwd=cwd)
    slug = "".join(each if each.isalnum() and each.isascii() else "-" for each in str(cwd))
    copy = home / ".claude" / "projects" / slug / f"{id_}.jsonl"
    assert copy.read_bytes() == file.read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600
    copy.write_text("the agent went on")
    kept_sessions.take_over("claude", kept_sessions.find("claude", id_, person, {}), home=home, cwd=cwd)
    assert copy.read_text() == "the agent went on"
    other, file = codex(person, "hello")
    kept_sessions.take_over("codex", kept_sessions.find("codex", other, person, {}), home=home, cwd=cwd)
    assert (home / file.relative_to(person)).read_bytes() == file.read_bytes()
    third, file = pi(person, "hello")
    kept_sessions.take_over("pi", kept_sessions.find("pi", third, person, {}), home=home, cwd=cwd)
    header, *rest = (home / ".pi/agent/sessions" / file.name).read_text().splitlines()
    before, *as_before = file.read_text().splitlines()
    assert json.loads(header) == {**json.loads(before), "cwd": str(cwd)}
    assert rest == as_before
    with pytest.raises(UnknownSession, match="`muster sessions claude` lists"):
        kept_sessions.find("claude", other, person, {})


def test_a_link_in_an_agents_home_leads_nowhere(tmp_path: Path) -> None:
    person, home = tmp_path / "person", tmp_path / "home"
    victim = tmp_path / "victim"
    victim.mkdir()
    home.mkdir()
    (home / ".claude").symlink_to(victim)
    id_, _ = claude(person, "hello")
    with pytest.raises(FleetError, match="a link or a file where a folder should be"):
        kept_sessions.take_over("claude", kept_sessions.find("claude", id_, person, {}), home=home, cwd=tmp_path)
    assert list(victim.iterdir()) == []

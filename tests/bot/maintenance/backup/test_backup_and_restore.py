"""A fleet is put into a file while it works, and taken out again without anything being done or said twice."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import math
import os
import shutil
import sqlite3
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from bot.commands import sections
from bot.config.paths import Paths
from bot.interfaces.cli.main import run
from bot.maintenance import atomic_swap
from bot.maintenance.backup import contents
from bot.maintenance.backup.restore import restore
from bot.maintenance.backup.service import backup
from bot.text.errors import UserError
from connectors.contract.messages import Message, Outbound, Priority
from connectors.delivery import outbox
from connectors.memory import MemoryServer
from database import migrations
from database.engine import schema_revision
from database.engine.store import Store
from database.queries.agents import agents
from fleet.journal import reader
from fleet.journal.events import JournalEntry, JournalPosition, Opened
from fleet.supervision import host_lifecycle
from tests.bot.fake_agents import launch, recorded, roster, steps
from tests.bot.maintenance.installation import STEP, hidden, people, put, standing
from tests.bot.orchestrator import ROOM, House, house
from tests.crash.deaths import die_at
from tests.postgres import Postgres
from tests.small_disk import small


async def idle(home: House) -> None:
    await home.orchestrator.quiet()


async def test_what_happened_since_the_backup_does_not_happen_again(tmp_path: Path) -> None:
    async with house(tmp_path / "house", roster=roster(tmp_path, "imp")) as home:
        (home.paths.workspace("imp")).mkdir(parents=True)
        (home.paths.workspace("imp") / "work.txt").write_text("an agent's work")
        async with home.open():
            thread = await launch(home, "imp")
            done = home.say(steps({"say": "done before"}), thread)
            await home.marks(done, "✅")
            asking = home.say(steps({"ask": {"title": "t", "rawInput": {"command": "c"}}}, {"say": "allowed"}), thread)
            await home.heard(thread, "asks for permission")
            waiting = home.say(steps({"say": "waited"}), thread)
            await home.marks(waiting, "📥")
            await idle(home)
            made = await backup(home.paths, {}, now=time.time())
            # What follows is in no backup.
            request = next(said for said in home.chat.messages(thread) if "asks for permission" in said.text)
            home.chat.react(request.event_id, "✅", conversation=thread)
            await home.marks(asking, "✅")
            await home.marks(waiting, "✅")
            await home.ask("!operator set memory:@nina viewer")
            later = home.say(steps({"say": "later"}), thread)
            await home.marks(later, "✅")
            await idle(home)
            with pytest.raises(UserError, match=rf"process {os.getpid()} on"):
                await restore(home.paths, {}, made.written.file, now=time.time())
        with pytest.raises(UserError, match=r"These agents run: imp \(process \d+\)"):
            await restore(home.paths, {}, made.written.file, now=time.time())
        await host_lifecycle.kill(home.paths.agent_folder("imp"))
        said, given = list(home.chat.wire), recorded(tmp_path, "imp")

        restored = await restore(home.paths, {}, made.written.file, now=time.time())
        assert restored.settled.agents == ("imp",)
        assert restored.settled.messages == 2
        assert restored.settled.approvals == 1
        (config, state) = sorted(restored.kept, key=len)
        assert {"muster.yaml", "roster.yaml"} <= set(os.listdir(config))
        assert {"register.db", "agents", "connectors"} <= set(os.listdir(state))
        assert (home.paths.workspace("imp") / "work.txt").read_text() == "an agent's work"

        async with home.open():
            told = await home.heard(ROOM, "restored from a backup")
            assert "say it again" in told
            await home.heard(thread, "restored from a backup")
            await idle(home)
            assert recorded(tmp_path, "imp") == given, "nothing was given to the runtime again"
            new = [key for key in home.chat.wire[len(said) :] if not key.startswith("restored/")]
            assert new == [], "nothing was said again"
            assert "@nina" not in await home.ask("!operators")

            await launch(home, "imp")
            again = home.say(steps({"say": "once more"}), thread)
            await home.marks(again, "✅")
            await home.heard(thread, "once more")
            texts = [text for text in home.chat.texts(thread) if text in ("waited", "later", "allowed")]
            assert sorted(texts) == ["allowed", "later", "waited"], "a queue does not begin again by itself"
            assert len({each.key for each in home.chat.said}) == len(home.chat.said)


async def test_what_waited_to_be_said_is_looked_for_first(tmp_path: Path) -> None:
    async with house(tmp_path / "house") as home:
        async with home.open() as orchestrator:
            home.chat.down = True
            async with orchestrator.store.write(STEP) as tx:
                hello = Outbound(
                    key="x/1",
                    connector="memory",
                    conversation=ROOM,
                    content=Message(text="hello"),
                    priority=Priority.REPLY,
                )
                await outbox.put(tx, hello, time.time())
            made = await backup(home.paths, {}, now=time.time())
            home.chat.down = False
            orchestrator.delivery.wake()
            await home.heard(ROOM, "hello")
            await idle(home)
        said = list(home.chat.wire)
        restored = await restore(home.paths, {}, made.written.file, now=time.time())
        assert restored.settled.looked_for == 1
        async with home.open() as orchestrator:
            await idle(home)
            async with orchestrator.store.read() as tx:
                row = await outbox.get(tx, "x/1")
            assert row is not None
            assert row.state == "sent"
            assert home.chat.wire == said, "it stood there"

        home.chat = MemoryServer()  # in which it never was
        await restore(home.paths, {}, made.written.file, now=time.time())
        async with home.open():
            await home.heard(ROOM, "hello")


# --- at a desk -------------------------------------------------------------------------------------------------------


def muster(*words: str) -> int:
    return run(sections.load(), list(words))


def test_a_restore_without_the_keys_of_encrypted_rooms_says_so(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    block = 'homeserver: "http://127.0.0.1:9", user: "@m:x", access_token: "env:T", encryption: allowed'
    paths.muster_yaml.write_text(f"connectors: {{home: {{kind: matrix, {block}}}}}\n")
    assert muster("backup", "--json") == 0
    file = json.loads(capsys.readouterr().out)["file"]
    assert muster("backup", "restore", file) == 0
    assert "those of home are not here" in capsys.readouterr().out
    paths.keys_folder("home").mkdir(parents=True)
    assert muster("backup", "restore", file) == 0
    assert "encrypted rooms" not in capsys.readouterr().out


def test_a_backup_is_put_back_by_hand(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert muster("backup", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    file = Path(answer["file"])
    assert file.parent == paths.state / "backups"
    assert file.name.startswith("muster-backup-2")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (answer["rows"], answer["schema"], answer["workspaces"]) == (1, migrations.head(), False)
    before = standing(paths)

    asyncio.run(put(paths.register_url, "eve"))
    paths.muster_yaml.write_text("timezone: Asia/Tokyo\n")
    (paths.roles / "tester.md").unlink()
    (paths.agent_folder("imp") / "home" / "run.sh").write_text("other\n")
    new = paths.agent_folder("newer")
    new.mkdir()
    (new / "journal").write_text("?")
    (paths.state / "prompt-history").write_text("?")

    assert muster("backup", "restore", str(file)) == 0
    said = capsys.readouterr().out
    assert standing(paths) == before
    assert os.access(paths.agent_folder("imp") / "home" / "run.sh", os.X_OK)
    assert asyncio.run(people(paths.register_url)) == ["x:ana"]
    (kept,) = paths.state.glob("before-restore-*")
    assert str(kept) in said
    assert "x:ana: viewer" in said
    assert (kept / "agents" / "newer" / "journal").exists()
    assert asyncio.run(people(f"sqlite:///{kept / 'register.db'}")) == ["x:ana", "x:eve"]
    assert hidden(paths) == []

    # What is in the way of a backup stays.
    content = file.read_bytes()
    assert muster("backup", str(file)) == 1
    assert "is there already" in capsys.readouterr().err
    assert file.read_bytes() == content
    assert muster("backup", str(file.parent / "no" / "where")) == 1
    assert "There is no folder" in capsys.readouterr().err
    assert muster("backup", "restore", str(file.parent / "no")) == 1
    assert "There is no file" in capsys.readouterr().err
    assert muster("backup", "restore") == 2


def test_what_an_agent_lays_out_for_a_backup(paths: Paths, tmp_path: Path) -> None:
    home = paths.agent_folder("imp") / "home"
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("the operator's")
    (home / "link").symlink_to(secret)
    (home / "pipe.fifo").touch()
    (home / "pipe.fifo").unlink()
    os.mkfifo(home / "pipe.fifo")
    with (home / "hole").open("wb") as file:
        file.truncate(2**43)
    (home.parent / "host.json").write_text("a key")
    (paths.unsaid / "tmux").mkdir(parents=True)
    (paths.unsaid / "tmux" / "typed.json").write_text("what was typed a moment ago")
    (home.parent / "elsewhere").symlink_to(secret)
    deep = home
    for _ in range(contents.DEEPEST + 10):
        deep = deep / "d"
    deep.mkdir(parents=True)

    made = asyncio.run(backup(paths, {}, now=1.0))
    with tarfile.open(made.written.file) as tar:
        names = tar.getnames()
    assert not [name for name in names if "key" in name or "host.json" in name or "d/d" in name or "typed" in name]
    left_out = "\n".join(made.written.left_out)
    for word in ("pipe.fifo: a socket", "hole: larger than", "elsewhere: a link", "folders deep"):
        assert word in left_out
    asyncio.run(restore(paths, {}, made.written.file, now=2.0))
    assert (home / "link").readlink() == secret, "a link comes back as a link"
    assert (paths.unsaid / "tmux" / "typed.json").exists(), "it is said once Muster runs again"
    assert (secret / "key").read_text() == "the operator's"


def test_two_in_one_second(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (asyncio.run(backup(paths, {}, now=1.0)).written.file for _ in range(2))
    assert one.name.replace(".tar", "-2.tar") == other.name
    shutil.rmtree(one.parent)
    one.parent.write_text("a file where the folder should be")
    assert muster("backup") == 1
    assert f"cannot be written to {one.parent}: File exists" in capsys.readouterr().err


# --- of an older version ---------------------------------------------------------------------------------------------


def _register_of(file: Path, revision: str) -> None:
    """A register of an older version, with somebody who was given a permission and a message that waits."""
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.exec_driver_sql("INSERT INTO operators VALUES ('x:ana', 'viewer', 'x', 1.0, 'default', 'then')")
        connection.exec_driver_sql(
            "INSERT INTO outbox (key, connector, lane, priority, content, state, created_at, not_before, attempts, "
            "tenant_id, host) VALUES ('x/1', 'memory', 'x', 1, '{}', 'pending', 1.0, 0.0, 0, 'default', 'then')"
        )
    engine.dispose()


@pytest.mark.parametrize(
    "revision",
    [each for each in sorted(migrations.known()) if each >= migrations.BASELINE],
)
def test_a_backup_of_an_older_version_is_migrated(paths: Paths, revision: str) -> None:
    register = paths.state / "register.db"
    for each in contents.files_of(register.name):
        (paths.state / each).unlink(missing_ok=True)
    _register_of(register, revision)
    made = asyncio.run(backup(paths, {}, now=1.0))
    assert made.header.schema == revision
    asyncio.run(put(paths.register_url, "eve"))  # which brings it to this version's schema
    restored = asyncio.run(restore(paths, {}, made.written.file, now=2.0))
    assert restored.settled.looked_for == 1
    assert asyncio.run(people(paths.register_url)) == ["x:ana"]
    assert asyncio.run(schema_revision.of(paths.register_url)) == migrations.head()


def test_what_a_journal_says_that_was_begun_during_the_backup_is_not_told_again(paths: Paths) -> None:
    folder = paths.agent_folder("imp")
    begun = JournalEntry(
        position=JournalPosition(1, 1),
        at=1.0,
        event=Opened(agent="imp", launch_id="l", marker="m", pid=1, protocol=1),
    )
    reader.path_of(folder, 1).parent.mkdir()
    reader.path_of(folder, 1).write_bytes(reader.encode(begun))
    made = asyncio.run(backup(paths, {}, now=1.0))
    asyncio.run(restore(paths, {}, made.written.file, now=2.0))

    async def told() -> JournalPosition:
        store = await Store.open(paths.register_url)
        async with store.read() as tx:
            found = await agents.position(tx, "imp")
        await store.close()
        return JournalPosition(found.incarnation, found.seq)

    assert asyncio.run(told()) == JournalPosition(reader.incarnations(folder)[-1], 1)


# --- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small(tmp_path, "1m") as mount:
        yield mount


@pytest.mark.root
def test_a_full_disk_leaves_no_half_backup(paths: Paths, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (paths.agent_folder("imp") / "home" / "large").write_bytes(os.urandom(2**20))
    assert muster("backup", str(small_disk)) == 1
    assert f"The disk of {small_disk} is full" in capsys.readouterr().err
    assert list(small_disk.iterdir()) == []


#: KiB that are free: from nothing, over what is too little at one step or another, to plenty.
_ROOMS = [
    pytest.param(room, marks=() if room in (0, 300) else pytest.mark.soak) for room in (*range(0, 1000, 50), 5000)
]


@pytest.mark.root
@pytest.mark.parametrize("room", _ROOMS)
def test_a_full_disk_leaves_what_was_there(
    paths: Paths, small_disk: Path, room: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert paths.home is not None
    file = asyncio.run(backup(paths, {}, now=1.0, target=paths.home.parent / "file")).written.file
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    monkeypatch.setenv("MUSTER_HOME", str(small_disk / "home"))
    here = Paths.of(os.environ)
    here.prepare()
    here.muster_yaml.write_text("timezone: Asia/Tokyo\n")
    asyncio.run(put(here.register_url, "eve"))
    before = standing(here)
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    with (small_disk / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, max(free - room * 1024, 1))
    status = muster("backup", "restore", str(file))
    said = capsys.readouterr().err
    (small_disk / "filler").unlink()
    assert status == {0: 1, 5000: 0}.get(room, status)
    if status:
        assert "full" in said or "room" in said
        assert standing(here) == before
        assert hidden(here) == []
        assert asyncio.run(people(here.register_url)) == ["x:eve"]
    else:
        assert asyncio.run(people(here.register_url)) == ["x:ana"]


# --- archives that are not what they should be ------------------------------------------------------------------------


def rewritten(source: Path, target: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> Path:
    """Another archive, of what `change` makes of the members of `source`."""
    with tarfile.open(source) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    change(members)
    with tarfile.open(target, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target


def _edit(members: list[tuple[tarfile.TarInfo, bytes]], name: str, change: Callable[[dict[str, Any]], None]) -> None:
    for index, (member, content) in enumerate(members):
        if member.name == name:
            document = json.loads(content)
            change(document)
            members[index] = (member, json.dumps(document).encode())


def _added(name: str, *, kind: bytes = tarfile.REGTYPE, leads_to: str = "") -> Callable[[Any], None]:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, leads_to
        members.insert(2, (member, b""))

    return change


def _linked(place: str, leads_to: str) -> Callable[[Any], None]:
    return lambda members: _edit(members, "manifest.json", lambda found: found["links"].update({place: leads_to}))


def _swapped(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    index = next(i for i, (member, _) in enumerate(members) if member.name == "config/muster.yaml")
    members[index] = (members[index][0], b"timezone: Asia/Tokyo___\n")


def _timed(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    next(member for member, _ in members if member.name == "config/muster.yaml").pax_headers = {"mtime": "inf"}


def _said(*sentences: str) -> Callable[[Any], None]:
    """The register after these sentences of SQL, rightly signed."""

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        index = next(i for i, (member, _) in enumerate(members) if member.name == "register.db")
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as register:
            register.deserialize(members[index][1])
            for sentence in sentences:
                register.execute(sentence)
            content = register.serialize()
        members[index] = (members[index][0], content)
        digest = hashlib.sha256(content).hexdigest()
        _edit(members, "manifest.json", lambda found: found["files"]["register.db"].update(sha256=digest))

    return change


HOSTILE = {
    "no time": (
        lambda members: _edit(members, "muster-backup.json", lambda found: found.update(made_at=math.inf)),
        "its header cannot be read",
    ),
    "no mode": (
        lambda members: _edit(members, "manifest.json", lambda found: found["folders"].update({"state/x": math.inf})),
        "Its manifest cannot be read",
    ),
    "no time of a file": (_timed, "is damaged, or not a Muster backup"),
    "a register of tomorrow": (_said("UPDATE alembic_version SET version_num = '9999'"), "has the schema 9999"),
    "a register without a schema": (_said("DELETE FROM alembic_version"), "does not say which schema"),
    "a register without a table": (_said("DROP TABLE outbox"), "The register in .* cannot be used.*: no such table"),
    "a register that objects": (
        _said("CREATE TRIGGER t BEFORE INSERT ON restores BEGIN SELECT RAISE(ABORT, 'no'); END"),
        "The register in .* cannot be used.*: no",
    ),
    "a way out": (_added("state/agents/../../../../out"), "a name that no backup has"),
    "a root": (_added("/tmp/muster-was-here"), "a name that no backup has"),
    "another file": (_added("config/authorized_keys"), "a name that no backup has"),
    "the program": (_added("state/versions/9/bin/muster"), "a name that no backup has"),
    "a soft link": (_added("state/agents", kind=tarfile.SYMTYPE, leads_to="/tmp"), "something other than plain files"),
    "a hard link": (_added("state/x", kind=tarfile.LNKTYPE, leads_to="register.db"), "something other than plain"),
    "a device": (_added("state/x", kind=tarfile.CHRTYPE), "something other than plain files"),
    "twice": (_added("register.db"), "twice"),
    "unknown": (_added("state/x"), "its manifest does not list"),
    "a link of ours": (_linked("state/agents/imp/journal", "/tmp"), "a link where none may be"),
    "a link above": (_linked("state/agents", "/tmp"), "a link where none may be"),
    "a link in the way": (_linked("state/agents/imp/home/run.sh", "/tmp"), "in the way of something else"),
    "swapped": (_swapped, "is not what was put in"),
    "no end": (lambda members: members.pop(), "its manifest is missing"),
    "no register": (lambda members: members.pop(1), "'register.db' is missing"),
    "of tomorrow": (
        lambda members: _edit(members, "muster-backup.json", lambda found: found.update(format=99, muster="9.9")),
        r"written by a newer Muster \(9.9\)",
    ),
    "a later schema": (
        lambda members: _edit(members, "muster-backup.json", lambda found: found.update(schema="9999")),
        "its register has the schema 9999",
    ),
}


def test_an_archive_that_is_not_what_it_should_be(paths: Paths, tmp_path: Path) -> None:
    file = asyncio.run(backup(paths, {}, now=1.0, target=tmp_path)).written.file
    before = standing(paths)
    for name, (change, words) in HOSTILE.items():
        bad = rewritten(file, tmp_path / "bad.tar.gz", change)
        with pytest.raises(UserError, match=words):
            asyncio.run(restore(paths, {}, bad, now=2.0))
        assert standing(paths) == before, name
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-9], b"", b"plain words", whole[:500] + b"!" + whole[501:]):
        (tmp_path / "bad.tar.gz").write_bytes(content)
        with pytest.raises(UserError, match=r"damaged|not a Muster backup"):
            asyncio.run(restore(paths, {}, tmp_path / "bad.tar.gz", now=2.0))
    assert standing(paths) == before
    assert hidden(paths) == []
    assert not Path("/tmp/muster-was-here").exists()
    assert not (tmp_path / "out").exists()


# --- killed ----------------------------------------------------------------------------------------------------------


def places_of_a_restore(moves: int) -> list[tuple[str, bool]]:
    """Every place, and whether a restore that dies there is done."""
    undone = ["restore.settle.before", "restore.settle.after", "restore.plan.before", "restore.plan.after"]
    undone += [f"restore.move.{side}:{count}" for count in range(1, 2 * moves + 1) for side in ("before", "after")]
    return [*((place, False) for place in (*undone, "restore.decide.before")), ("restore.decide.after", True)]


def _killed_restore(paths: Paths, places: Sequence[tuple[str, bool]]) -> None:
    file = asyncio.run(backup(paths, {}, now=1.0)).written.file
    restored = standing(paths)
    asyncio.run(put(paths.register_url, "eve"))
    paths.muster_yaml.write_text("timezone: Asia/Tokyo\n")
    paths.roster_yaml.write_text("preset: minimal\n")
    before = standing(paths)
    for place, done in places:
        die_at(place, lambda: asyncio.run(restore(paths, {}, file, now=2.0)))
        asyncio.run(atomic_swap.settle(paths, {}))
        assert standing(paths) == {**(restored if done else before), **_drafts(paths)}, place
        assert asyncio.run(people(paths.register_url)) == (["x:ana"] if done else ["x:ana", "x:eve"]), place
    asyncio.run(restore(paths, {}, file, now=3.0))
    assert standing(paths) == restored
    assert hidden(paths) == []


def _drafts(paths: Paths) -> dict[str, str]:
    """What a process that was killed before it had a plan left lying; the next restore takes it away."""
    return {name: text for name, text in standing(paths).items() if "/.restore-" in f"/{name}"}


def test_killed_at_this_place_a_restore_is_done_or_undone(paths: Paths) -> None:
    _killed_restore(
        paths, [("restore.settle.after", False), ("restore.move.after:3", False), *places_of_a_restore(0)[-2:]]
    )


@pytest.mark.soak
def test_killed_at_every_place_a_restore_is_done_or_undone(paths: Paths) -> None:
    _killed_restore(paths, places_of_a_restore(5))


def test_killed_at_this_place_a_backup_is_there_or_not(paths: Paths, tmp_path: Path) -> None:
    for side, there in (("before", False), ("after", True)):
        target = tmp_path / side
        die_at(f"backup.write.{side}", lambda target=target: asyncio.run(backup(paths, {}, now=1.0, target=target)))  # type: ignore[misc]
        assert target.exists() == there
    for left in tmp_path.glob(".muster-backup.*"):
        os.utime(left, (1.0, 1.0))
    asyncio.run(backup(paths, {}, now=1.0, target=tmp_path / "third"))
    assert not list(tmp_path.glob(".muster-backup.*"))


# --- on a server -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_this_place_a_server_knows_whether_it_is_done(
    paths: Paths, postgres: Postgres, postgres_database: str
) -> None:
    url = postgres.url(postgres_database)
    paths.muster_yaml.write_text(f"register:\n  url: {url}\n")
    asyncio.run(put(url, "ana"))
    made = asyncio.run(backup(paths, {}, now=1.0))
    assert made.header.register == "postgresql"
    asyncio.run(put(url, "eve"))
    changed = paths.muster_yaml.read_text() + "timezone: Asia/Tokyo\n"
    paths.muster_yaml.write_text(changed)
    for side in ("before", "after"):
        die_at(f"register.replace.{side}", lambda: asyncio.run(restore(paths, {}, made.written.file, now=2.0)))
        said = asyncio.run(atomic_swap.settle(paths, {}))
        if side == "before":
            assert "undone" in str(said)
            assert paths.muster_yaml.read_text() == changed
            assert asyncio.run(people(url)) == ["x:ana", "x:eve"]
    assert "is now complete" in str(said)
    assert paths.muster_yaml.read_text() != changed
    assert asyncio.run(people(url)) == ["x:ana"]

    restored = asyncio.run(restore(paths, {}, made.written.file, now=3.0))
    assert asyncio.run(people(url)) == ["x:ana"]
    assert restored.kept[-1].startswith("the schema before_restore_")

"""What only grows stays within bounds, and what somebody still waits for stays."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from bot.config.loader import load
from bot.config.paths import Paths
from bot.maintenance import retention_files
from bot.maintenance.retention_files import KeptFile, superfluous
from bot.text.errors import ConfigError
from connectors.contract.messages import File, Outbound, Priority
from connectors.delivery import outbox
from core import data_sizes, log_rotation
from database.engine.store import Store
from database.queries import tasks
from fleet.supervision import host_lock
from tests.bot.maintenance.installation import STEP
from tests.scheduler.dispatch.dispatcher import task


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("200 MB", 200_000_000),
        ("1.5GB", 1_500_000_000),
        ("64 MiB", 67_108_864),
        ("5000000", 5_000_000),
        ("2m", 2_000_000),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert data_sizes.of_setting(text) == count


@pytest.mark.parametrize("value", ["much", "1 MB 2", "-5 MB", "999999 TB", "10", True, None, "", "1e9"])
def test_what_is_no_size(value: Any) -> None:
    with pytest.raises(ValueError, match="MB"):
        data_sizes.of_setting(value)


def test_the_settings(paths: Paths) -> None:
    assert load(paths).retention.journals == 64 * 2**20
    paths.muster_yaml.write_text("retention: {journals: 200 MB, logs: 5 MB, files: 2 GB}\n")
    found = load(paths).retention
    assert (found.journals, found.logs, found.files) == (200_000_000, 5_000_000, 2_000_000_000)
    paths.muster_yaml.write_text("retention: {journals: plenty}\n")
    with pytest.raises(ConfigError, match=r"retention.journals: not an amount of data: 'plenty'"):
        load(paths)


def test_the_oldest_go_first_and_what_is_wanted_never(tmp_path: Path) -> None:
    files = [KeptFile(path=tmp_path / str(number), size=10, at=float(number)) for number in range(1, 7)]

    def gone(**given: Any) -> str:
        chosen = {"before": 0.0, "limit": 100, "wanted": (), **given}
        return " ".join(path.name for path in superfluous(reversed(files), **chosen))

    assert gone() == ""
    assert gone(limit=60) == ""
    assert gone(limit=59) == "1"
    assert gone(limit=25) == "1 2 3 4"
    assert gone(before=3.0) == "1 2"
    assert gone(limit=25, wanted=[tmp_path / "1", tmp_path / "3"]) == "2 4 5 6"
    assert gone(limit=0, before=9.0, wanted=[file.path for file in files]) == ""


async def test_a_file_that_is_not_sent_yet_stays(paths: Paths) -> None:
    for name in ("waits", "sent", "new"):
        (paths.outgoing / name).write_bytes(b"x" * 100)
        os.utime(paths.outgoing / name, (1.0, 1.0) if name != "new" else (9.0, 9.0))
    store = await Store.open(paths.register_url)
    async with store.write(STEP) as tx:
        for name in ("waits", "sent"):
            file = File(path=str(paths.outgoing / name), name=name, media_type="text/plain", caption="")
            out = Outbound(key=name, connector="x", conversation="c", content=file, priority=Priority.REPLY)
            await outbox.put(tx, out, 1.0)
        await outbox.close(tx, ["sent"], "superseded", "")
    (paths.config / "other").symlink_to(paths.state)
    other = paths.config / "other" / paths.outgoing.name  # the same folder by another way
    assert await retention_files.sweep_files(store, (other, paths.incoming), before=5.0, limit=1000) == 1
    assert sorted(os.listdir(paths.outgoing)) == ["new", "waits"]
    assert await retention_files.sweep_files(store, (paths.outgoing,), before=5.0, limit=1000) == 0
    await store.close()


async def test_a_picture_of_words_that_are_held_stays(paths: Paths) -> None:
    paths.incoming.mkdir(parents=True, exist_ok=True)
    for name in ("held", "dropped"):
        (paths.incoming / name).write_bytes(b"x")
        os.utime(paths.incoming / name, (1.0, 1.0))
    store = await Store.open(paths.register_url)
    async with store.write(STEP) as tx:
        for number, name in enumerate(("held", "dropped"), start=1):
            state = "queued" if name == "held" else "cancelled"
            picture = {"path": str(paths.incoming / name), "media_type": "image/png"}
            await tasks.add(tx, task(number, kind="turn", agent="coder0", state=state, attachments=[picture]))
    assert await retention_files.sweep_files(store, (paths.incoming,), before=5.0, limit=1000) == 1
    assert os.listdir(paths.incoming) == ["held"]
    await store.close()


def test_a_log_is_cut_while_somebody_writes(tmp_path: Path) -> None:
    log = tmp_path / "host.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"".join(b"line %d\n" % number for number in range(2000)))
        assert not log_rotation.bound(log, 2**20)
        assert log_rotation.bound(log, 4000)
        writer.write(b"after\n")
    assert log.read_bytes() == b"after\n"
    tail = log_rotation.earlier(log).read_bytes()
    assert tail.startswith(b"line ")
    assert tail.endswith(b"line 1999\n")
    assert 1500 < len(tail) <= 2000
    log.unlink()
    log.symlink_to(log_rotation.earlier(log))
    with pytest.raises(OSError, match="symbolic links"):
        log_rotation.bound(log, 10)


def test_a_flooded_log_stays_small_whatever_else_the_process_does(tmp_path: Path) -> None:
    log = tmp_path / "host.log"
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
            log_rotation.keep_bounded(log, 50_000)
            while not log_rotation.earlier(
                log
            ).exists():  # a loop that lets nobody else in, but for the interpreter's own turns
                os.write(2, b"flood\n" * 100)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert 0 < log_rotation.earlier(log).stat().st_size <= 25_000


def test_a_running_host_looks_after_its_own_log(paths: Paths) -> None:
    running, stopped = paths.agent_folder("imp"), paths.agent_folder("gone")
    stopped.mkdir()
    for log in (running / "host.log", stopped / "host.log", paths.log):
        log.write_bytes(b"x" * 3000)
    held = host_lock.hold(running)
    asyncio.run(retention_files.bound_logs(paths, 2000))
    os.close(held)
    assert [log.stat().st_size for log in (running / "host.log", stopped / "host.log", paths.log)] == [3000, 0, 0]

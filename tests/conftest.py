"""What tests of several packages share."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sqlite3
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog

from core.crash_points import around
from database import migrations
from database.engine import sqlite
from database.engine import store as engine_store
from database.engine.store import Store
from fleet.hosting import detached
from tests import forked_hosts, soak
from tests.postgres import Postgres, PostgresMissing
from tests.synapse import Synapse, SynapseMissing

#: Set in CI, where everything is installed: a test that is skipped there was skipped by mistake.
REFUSE_SKIPS = "MUSTER_TESTS_REFUSE_SKIPS"
#: The reason of a skip where a test cannot be run as an ordinary user. Its test has the mark `root`.
NEEDS_ROOT = "needs root"
#: Skips with these reasons are not mistakes: CI runs the test as root as well, the time was used up, or what the test
#: needs is too heavy to be installed or kept for every run.
EXCUSED = (NEEDS_ROOT, "the time for soak tests is over", "tried by hand", "Gitea's API description is not at")


#: How registers are written outside of tests.
_SYNCHRONOUS = sqlite.SYNCHRONOUS

#: Whose tests run with both kinds of database in `make test`; of all others `make test-slow` runs the second.
_BOTH_DATABASES = ("tests/database/", "tests/connectors/delivery/test_service")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Say in which order tests run, and which of them are slow because their like runs anyway.

    Those with a homeserver go first: they are the longest, and as neighbours most of them come to one of the test
    processes, so that the other one starts no homeserver. Where the time for soak tests is bounded, chance says which
    of them come to run.
    """
    for item in items:
        call = getattr(item, "callspec", None)
        twin = call is not None and call.params.get("register_url") == "postgresql"
        if twin and not item.nodeid.startswith(_BOTH_DATABASES):
            item.add_marker(pytest.mark.slow)
    if config.option.markexpr == "soak" and soak.budget() is not None:
        soak.shuffle(items)
    else:
        items.sort(key=lambda item: item.get_closest_marker("synapse") is None)


def pytest_configure() -> None:
    """Choose the seed before other processes of this run are started, and let nothing look for garbage for now.

    What is imported and collected stays until the end: looking through it again and again took a third of the time
    that collecting does.
    """
    soak.seed()
    gc.disable()
    _log_plainly()
    _describe_no_signal_handlers()
    # A busy machine fails no test. Neither does what an unrelated property draws by chance: examples are the same in
    # each run, except that `make explore` draws new ones.
    explore = os.environ.get("MUSTER_PROPERTIES") == "explore"
    hypothesis.settings.register_profile(
        "muster", deadline=None, derandomize=not explore, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("muster")


def _log_plainly() -> None:
    """Log exceptions as Python itself shows them.

    Otherwise every variable of every frame is drawn with them: of a whole orchestrator that is ten thousand lines, and
    seconds, each time.
    """
    *others, _ = structlog.get_config()["processors"]
    shown = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*others, shown])


def _describe_no_signal_handlers() -> None:
    """Have `signal` return handlers that are functions at once, as it does from Python 3.12 on.

    Before, it takes them for numbers, and writes an error about each. The handler of an event loop is written with its
    task and the task's result: of a fixture that is a whole orchestrator, and a third of a second of a core, in most
    tests.
    """
    convert: Callable[[object, type], object] = signal._int_to_enum  # type: ignore[attr-defined]

    def quickly(value: object, kind: type) -> object:
        return convert(value, kind) if isinstance(value, int) else value

    signal._int_to_enum = quickly  # type: ignore[attr-defined]


def pytest_collection_finish() -> None:
    """Look for garbage again, but not among what was collected."""
    gc.freeze()
    gc.enable()


def pytest_report_header() -> str:
    """The seed of everything random."""
    return f"MUSTER_SEED={soak.seed()}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave a soak test out when the time for them is over."""
    if item.get_closest_marker("soak") is not None and soak.is_over():
        pytest.skip("the time for soak tests is over")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that needs root and does not have the mark: CI would never run it."""
    report = yield
    if report.skipped and _reason(report).startswith(NEEDS_ROOT) and item.get_closest_marker("root") is None:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} {_reason(report)!r}, so it must have the mark `root` (make test-root)."
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when tests were skipped although `REFUSE_SKIPS` is set."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get(REFUSE_SKIPS) or reporter is None or session.exitstatus != pytest.ExitCode.OK:
        return
    wrong = [report for report in reporter.stats.get("skipped", []) if not _allowed(report)]
    for report in wrong:
        reporter.write_line(f"skipped, and {REFUSE_SKIPS} is set: {report.nodeid}: {report.longrepr}", red=True)
    if wrong:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _allowed(report: pytest.TestReport) -> bool:
    return _reason(report).startswith(EXCUSED)


def _reason(report: pytest.TestReport) -> str:
    """Return why a test was skipped."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    return reason.removeprefix("Skipped: ")


@pytest.fixture(autouse=True, scope="session")
def _registers_are_copied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Migrate one new register in a file, and copy it wherever this process makes another: a hundredth of the work.

    Registers that are there already, and those that other processes make, are migrated as ever.
    """
    migrate, migrated = migrations.upgrade, b""

    def copy(file: Path) -> None:
        nonlocal migrated
        if not file.exists() or file.stat().st_size:
            migrate(file)
            return
        if not migrated:
            first = tmp_path_factory.mktemp("register") / "register.db"
            first.touch()
            migrate(first)
            migrated = first.read_bytes()
        # SQLite writes it, so that what is wrong with the place comes as its errors.
        with closing(sqlite3.connect(":memory:")) as source, closing(sqlite3.connect(file)) as target:
            source.deserialize(migrated)
            with around(migrations.MIGRATE):
                source.backup(target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "upgrade", copy)
        yield


@pytest.fixture(autouse=True, scope="session")
def _disks_are_not_waited_for() -> Iterator[None]:
    """Write nothing through to the disk in this process: tests kill processes, and what those wrote stays.

    That is a third of the time of a test of the orchestrator. `real_syncs` is for tests that look at it.
    """

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "SYNCHRONOUS", "OFF")
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, lambda _number: None)
        yield


@pytest.fixture
def real_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write registers through to the disk, as outside of tests."""
    monkeypatch.setattr(sqlite, "SYNCHRONOUS", _SYNCHRONOUS)


@pytest.fixture(autouse=True, scope="session")
def _certificates_are_read_once() -> Iterator[None]:
    """Share what trusts whom this machine trusts: reading its certificates takes 24 ms, in each egress of a test."""
    make = ssl.create_default_context
    shared = make()

    def create(purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH, **given: Any) -> ssl.SSLContext:
        return make(purpose, **given) if given or purpose is not ssl.Purpose.SERVER_AUTH else shared

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", create)
        yield


@pytest.fixture(autouse=True, scope="session")
def _hosts_are_forked() -> Iterator[None]:
    """Fork agent hosts instead of starting interpreters; `real_hosts` is for tests that need those."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detached, "start_process", forked_hosts.start)
        yield


@pytest.fixture
def real_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start agent hosts as they are started outside of tests."""
    monkeypatch.setattr(detached, "start_process", forked_hosts.start_interpreter)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every user of this machine can get into; what pytest makes is closed to others."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        folder = Path(made).resolve()
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="session")
def synapse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synapse]:
    """The homeserver that tests share: raised limits. Make users of your own on it; do not stop it."""
    server = Synapse(tmp_path_factory.mktemp("synapse"))
    _start(server)
    yield server
    server.stop()


@pytest.fixture
def private_synapse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Synapse]]:
    """Homeservers of one's own, to be stopped, killed and limited: call it as `Synapse` without a folder."""
    servers: list[Synapse] = []

    def make(**settings: object) -> Synapse:
        server = Synapse(tmp_path_factory.mktemp("synapse"), **settings)  # type: ignore[arg-type]
        servers.append(server)
        _start(server)
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL that tests share; make databases of your own on it. Whoever stops it, starts it again."""
    try:
        server = Postgres()
    except PostgresMissing as missing:
        pytest.skip(str(missing))
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> str:
    """A database with the tables of a new register, to be copied."""

    async def make() -> str:
        name = await postgres.database()
        await (await Store.open(postgres.url(name))).close()
        return name

    return asyncio.run(make())


@pytest.fixture
def postgres_database(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    """The name of a database that is a new register."""
    name = asyncio.run(postgres.database(like=postgres_template))
    yield name
    asyncio.run(postgres.drop(name))


@pytest.fixture(scope="session")
def kept_database(postgres: Postgres, postgres_template: str) -> str:
    """The name of the database that `emptied_database` uses again and again: copying one takes far longer."""
    return asyncio.run(postgres.database(like=postgres_template))


@pytest.fixture
def emptied_database(postgres: Postgres, kept_database: str) -> str:
    """The name of a database that is an empty register, for tests that leave its tables as they are."""
    asyncio.run(postgres.empty(kept_database))
    return kept_database


@pytest.fixture
async def server(postgres: Postgres, emptied_database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Postgres]:
    """The shared PostgreSQL, to be stopped and killed; it runs again afterwards."""
    monkeypatch.setattr(engine_store, "LONGEST_LOOK", 0.2)
    yield postgres
    if postgres.pid is None:
        await postgres.started()


@pytest.fixture(params=["sqlite", "postgresql"])
def register_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty register; the test runs once with each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'register.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.url(request.getfixturevalue("emptied_database"))


@pytest.fixture
async def store(register_url: str) -> AsyncIterator[Store]:
    """An empty register, open."""
    opened = await Store.open(register_url)
    yield opened
    await opened.close()


def _start(server: Synapse) -> None:
    try:
        server.start()
    except SynapseMissing as missing:
        pytest.skip(str(missing))

"""Help, who may do what, and who did what, as an admin sees them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import update

from bot.auth.permission import ADMIN, NONE, OPERATOR, VIEWER, Permission
from bot.auth.permissions import Operators
from bot.commands import registry as command_table
from bot.commands import sections
from bot.commands.executor import Executor
from bot.commands.help import explanation
from bot.commands.runs import RunOutcome, RunRequest
from bot.commands.syntax import CHAT, written
from bot.config.paths import Paths
from bot.messaging.event_hub import EventHub
from bot.monitoring import audit_view
from bot.monitoring import commands as _admin
from bot.reports.services import ReportServices
from connectors.contract.connector_protocol import Device, DeviceState, NotReady, UnknownDevice
from core.crash_points import declare
from core.signing.signing_key import SigningKey
from database.engine.store import Store
from database.queries.operations import audit_anchors
from database.queries.operations.audit_log import AuditRow
from database.schema import audit

assert _admin

STEP = declare("tests.monitoring")

ANA = "matrix:@ana:example.org"
OWNER = "terminal:root"


@dataclass
class Office:
    store: Store
    parts: dict[str, Any] = field(default_factory=dict)
    runs: int = 0

    def __post_init__(self) -> None:
        async def parts() -> dict[str, Any]:
            return self.parts

        self.services = ReportServices(
            clock=lambda: 1_000_000.0,
            store=self.store,
            table=command_table.TABLE,
            operators=Operators(self.store, {ANA: OPERATOR}, owners={OWNER}),
            events=EventHub(),
            health=parts,
            version="1.2.3",
            started_at=999_000.0,
            settings=cast("Any", SimpleNamespace(broken=("matrix", "discord"), connectors=[])),
        )
        self.executor = Executor(self.services)

    async def __call__(
        self, name: str, /, *, by: str = OWNER, may: Permission = ADMIN, door: str = "cli", **arguments: Any
    ) -> RunOutcome:
        self.runs += 1
        return await self.executor.run(
            RunRequest(id=f"r{self.runs}", name=name, arguments=arguments, identity=by, permission=may, door=door)
        )


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    yield Office(store)
    await store.close()


async def test_help_lists_what_the_person_may_run(office: Office) -> None:
    everything, little = await office("help"), await office("help", may=VIEWER)
    assert "`muster operator set IDENTITY none|viewer|operator|admin`" in everything.text
    assert "operator set" not in little.text
    assert "`muster whoami`" in little.text
    assert {"name", "usage", "permission", "arguments"} <= everything.data[0].keys()


async def test_help_in_chat_has_the_prefix_and_the_words_of_chat(office: Office) -> None:
    text = (await office("help", name="all", door="chat")).text
    assert "`!whoami`" in text
    assert "`!confirm [ID]`" in text


async def test_help_in_chat_is_a_line_for_each_section(office: Office) -> None:
    text = (await office("help", door="chat", may=VIEWER)).text
    assert "whoami" in text
    assert "operator set" not in text
    assert "**answers**: confirm, decline" in text
    assert text.endswith("`!help NAME` explains one, and `!help all` says what each does.")
    assert len(text) < 2_000


async def test_help_explains_one_command_or_a_group(office: Office) -> None:
    one, group = await office("help", name="audit"), await office("help", name="operator")
    assert one.text.startswith("`muster audit [--since DURATION]`")
    assert "- `--since`: how far back, such as 2h" in one.text
    assert group.text.startswith("`muster operator set")
    unknown = await office("help", name="audti")
    assert (unknown.state, unknown.text) == ("refused", 'There is no command "audti". Did you mean `muster audit`?')


def test_help_of_a_command_names_those_that_begin_with_its_word() -> None:
    table = sections.load()
    budget, spend = table.get("budget"), table.get("spend")
    assert budget is not None
    assert spend is not None
    text = written(explanation(budget, table), CHAT)
    assert text.endswith("Further commands: `!budget log`, `!budget set`, `!budget clear`, `!budget authorize`.")
    assert "Further" not in explanation(spend, table)


async def test_a_permission_that_is_set_counts_from_then_on(office: Office) -> None:
    operators = office.services.operators
    assert await operators.permission(ANA) is OPERATOR
    assert (await office("operator set", identity=ANA, permission="none")).state == "done"
    assert await operators.permission(ANA) is NONE
    await office("operator set", identity="discord:ben#1", permission="Admin")
    assert await operators.permission("discord:ben#1") is ADMIN
    assert await Operators(office.store, {ANA: OPERATOR}, owners={OWNER}).permission(ANA) is NONE

    listed = (await office("operators")).data
    assert [(row["identity"], row["permission"], row["source"]) for row in listed] == [
        ("discord:ben#1", "admin", "command"),
        (OWNER, "admin", "owner"),
        (ANA, "none", "command"),
    ]
    assert listed[0]["set_by"] == OWNER
    assert listed[0]["set_at"] == "1970-01-12T13:46:40.000Z"


@pytest.mark.parametrize("identity", ["ana", "matrix:", "matrix:a b", "matrix:a\x1b[31m", "Matrix:ana", OWNER])
async def test_nobody_can_be_called_so_or_it_is_the_owner(office: Office, identity: str) -> None:
    outcome = await office("operator set", identity=identity, permission="viewer")
    assert outcome.state == "refused"
    assert await office.services.operators.permission(OWNER) is ADMIN


async def test_the_audit_tells_who_did_what(office: Office) -> None:
    assert (await office("audit")).text == "Nothing was done in that time."
    await office("operator set", identity="matrix:@x:y", permission="viewer")
    await office("operators", by=ANA, may=OPERATOR)
    outcome = await office("audit", since="1h")
    assert [(row["identity"], row["action"], row["outcome"]) for row in outcome.data][-2:] == [
        (OWNER, "operator set", "done"),
        (ANA, "operators", "refused"),
    ]
    assert "operator set identity=matrix:@x:y permission=viewer" in outcome.text


async def test_the_audit_is_verified_with_the_key_of_the_installation(office: Office, tmp_path: Path) -> None:
    office.services.paths = Paths.of({"MUSTER_HOME": str(tmp_path)})
    await office("operator set", identity="matrix:@x:y", permission="viewer")
    await office("operator set", identity="matrix:@z:y", permission="viewer")
    outcome = await office("audit verify")
    assert outcome.state == "done"
    assert "The audit log is as Muster wrote it: 2 lines, no line was signed yet." in outcome.text
    key = SigningKey.read(office.services.paths.signing_key)
    assert (outcome.data["ok"], outcome.data["lines"], outcome.data["key"]) == (True, 2, key.public)
    async with office.store.write(STEP) as tx:
        await audit_anchors.checkpoint(tx, SigningKey(b"o" * 32), 1_000_000.0)
        await tx.execute(update(audit).where(audit.c.key.contains("1")).values(identity=ANA))
    outcome = await office("audit verify")
    assert outcome.state == "failed"
    assert (
        "**The audit log is not as Muster wrote it** (3 lines, last signed at 1970-01-12 13:46:40 UTC):" in outcome.text
    )
    assert [fault["code"] for fault in outcome.data["faults"]] == ["anchor_unknown_key", "broken"]
    assert "by the unknown key `ed25519:" in outcome.text
    outcome = await office("audit verify", key=SigningKey(b"o" * 32).public)
    assert [fault["code"] for fault in outcome.data["faults"]] == ["broken"]


async def test_a_key_that_is_none_is_refused(office: Office, tmp_path: Path) -> None:
    office.services.paths = Paths.of({"MUSTER_HOME": str(tmp_path)})
    outcome = await office("audit verify", key="ed25519:abc")
    assert outcome.state == "refused"
    assert "'ed25519:abc' is no public key" in outcome.text
    assert (await office("audit verify", by=ANA, may=OPERATOR)).state == "refused"


async def test_whoami(office: Office) -> None:
    outcome = await office("whoami", by=ANA, may=VIEWER)
    assert outcome.data == {"identity": ANA, "permission": "viewer", "through": None, "door": "cli"}


async def test_health_is_ok_only_when_every_part_is_known_to_be_well(office: Office) -> None:
    connector = {"kind": "matrix", "reachable": True, "authenticated": True, "last_seen": None, "detail": "fine"}
    register = {"reachable": True, "detail": "it answers"}
    office.parts = {"connectors": [connector], "register": register, "agents": {"idle": 2}, "jobs": []}
    well = (await office("health")).data
    assert well["status"] == "ok"
    assert well["uptime_s"] == 1000
    assert well.keys() == {
        "status",
        "version",
        "uptime_s",
        "connectors",
        "egress",
        "forge",
        "register",
        "disks",
        "jobs",
        "agents",
        "tasks",
    }

    office.parts["connectors"] = [connector | {"reachable": None, "detail": "never asked"}]
    degraded = await office("health")
    assert degraded.data["status"] == "degraded"
    assert "? connector matrix: never asked" in degraded.text

    office.parts["connectors"] = [connector | {"impaired": True, "detail": "The room was replaced."}]
    degraded = await office("health")
    assert degraded.data["status"] == "degraded"
    assert "✗ connector matrix: The room was replaced." in degraded.text

    office.parts["connectors"] = [connector]
    office.parts["disks"] = [
        {"name": "/a", "reachable": False, "detail": "/a cannot be written: No space left on device."}
    ]
    degraded = await office("health")
    assert degraded.data["status"] == "degraded"
    assert "✗ disk: /a cannot be written" in degraded.text

    office.parts = {"register": register, "jobs": [{"name": "sweep", "last_error": "boom", "missed": 0}]}
    failing = await office("health")
    assert failing.data["status"] == "degraded"
    assert "✗ job sweep: boom" in failing.text

    office.parts = {}
    assert (await office("health")).data["status"] == "degraded"


async def test_health_is_down_without_a_register(office: Office) -> None:
    office.parts = {"register": {"reachable": False, "detail": "The disk is full."}}
    outcome = await office("health")
    assert outcome.data["status"] == "down"
    assert "✗ register: The disk is full." in outcome.text


def test_what_the_egress_refused_can_be_read_in_the_audit() -> None:
    row = AuditRow(
        seq=1,
        at=0.0,
        identity="egress",
        through=None,
        door="egress",
        connector=None,
        conversation=None,
        action="refused",
        arguments={"agent": "coder0"},
        outcome="refused",
        detail="refused: POST | /v1/files",
    )
    last = audit_view.text([row], limit=200).splitlines()[-1]
    assert last.endswith("| refused agent=coder0 | refused: POST \\| /v1/files |")


# --- devices -----------------------------------------------------------------------------------------------------

PHONE = Device(
    user="@ana:x", id="PHONE", name="A|na", fingerprint="abcdefgh", standing=DeviceState.CHANGED, reads=False
)


class AgentSupervisor:
    """A connector that knows one device."""

    def __init__(self, *known: Device) -> None:
        self.known = {device.id: device for device in known}

    async def devices(self) -> tuple[Device, ...]:
        return tuple(self.known.values())

    async def judge(self, device: str, standing: DeviceState) -> Device:
        if device not in self.known:
            raise UnknownDevice(f"no device is called {device}.")
        self.known[device] = replace(self.known[device], standing=standing)
        return self.known[device]


def with_connectors(office: Office, **connectors: Any) -> None:
    settings: Any = SimpleNamespace(connectors=[SimpleNamespace(name=name) for name in connectors])
    delivery: Any = SimpleNamespace(connector=connectors.get)
    office.services.settings, office.services.delivery = settings, delivery


async def test_devices_are_listed_and_judged(office: Office) -> None:
    supervisor = AgentSupervisor(PHONE)
    with_connectors(office, terminal=object(), home=supervisor, work=AgentSupervisor())
    listed = await office("matrix devices")
    assert "abcd efgh" in listed.text
    assert "matrix forget DEVICE" in listed.text
    (row,) = listed.reply.data
    assert (row["connector"], row["device"], row["standing"], row["reads"]) == ("home", "PHONE", "changed", False)
    assert row["own"] is False
    assert "gets no more keys" in (await office("matrix block", device="PHONE")).text
    assert supervisor.known["PHONE"].standing is DeviceState.BLOCKED
    assert (await office("matrix forget", device="PHONE", connector="home")).state == "done"
    refused = await office("matrix trust", device="OTHER", connector="home")
    assert (refused.state, "no device is called OTHER" in refused.text) == ("refused", True)
    assert "Those that do: home, work." in (await office("matrix trust", device="PHONE", connector="terminal")).text


async def test_the_device_on_which_muster_writes_is_listed_as_its_own(office: Office) -> None:
    own = Device(
        user="@m:x", id="BOT", name="", fingerprint="ijklmnop", standing=DeviceState.TRUSTED, reads=True, own=True
    )
    with_connectors(office, home=AgentSupervisor(own))
    listed = await office("matrix devices")
    assert "ijkl mnop" in listed.text
    assert "Muster itself" in listed.text
    assert "No other device is known" in listed.text
    with_connectors(office, home=AgentSupervisor(own, PHONE))
    listed = await office("matrix devices")
    assert [(row["device"], row["own"]) for row in listed.reply.data] == [("BOT", True), ("PHONE", False)]
    assert "No other device is known" not in listed.text


async def test_nobody_locks_themselves_out_of_the_room_in_which_they_write(office: Office) -> None:
    supervisor = AgentSupervisor(replace(PHONE, standing=DeviceState.SEEN, reads=True))
    with_connectors(office, home=supervisor)
    for name in ("PHONE", "@ana:x/PHONE"):
        refused = await office("matrix block", device=name, by="home:@ana:x", door="chat")
        assert (refused.state, "in a shell" in refused.text) == ("refused", True)
    assert supervisor.known["PHONE"].standing is DeviceState.SEEN
    supervisor.known["LAPTOP"] = replace(supervisor.known["PHONE"], id="LAPTOP")
    assert (await office("matrix block", device="PHONE", by="home:@ana:x", door="chat")).state == "done"
    supervisor.known["PHONE"] = replace(PHONE, reads=False)
    assert (await office("matrix block", device="LAPTOP")).state == "done"


async def test_a_connector_that_is_down_knows_no_devices(office: Office) -> None:
    with_connectors(office, home=AgentSupervisor())
    assert "`muster health`" in (await office("matrix devices")).text


async def test_devices_are_for_admins_where_something_encrypts(office: Office) -> None:
    with_connectors(office, terminal=object())
    assert "encryption: allowed" in (await office("matrix devices")).text
    for name in ("matrix devices", "matrix trust", "matrix block", "matrix forget"):
        command = office.services.table.get(name)
        assert command is not None
        assert command.permission is ADMIN


async def test_a_pane_is_opened_where_there_is_one_to_open(office: Office) -> None:
    none = await office("tmux open")
    assert (none.state, "`tmux: {}` under connectors" in none.text) == ("refused", True)
    opened: list[str] = []

    def pane(name: str) -> Any:
        async def open_() -> str:
            opened.append(name)
            if name == "hung":
                raise NotReady("The tmux server default did not answer.")
            return f"It is in {name}."

        return SimpleNamespace(kind="tmux", open=open_)

    office.services.terminals = {"terminal": SimpleNamespace(kind="terminal"), "tmux": pane("tmux")}
    assert (await office("tmux open")).text == "It is in tmux."
    assert (await office("tmux open", name="terminal")).text.endswith("There is tmux.")
    office.services.terminals = {"tmux": pane("tmux"), "hung": pane("hung")}
    assert "Say which" in (await office("tmux open")).text
    assert "There are tmux, hung" in (await office("tmux open", name="terminal")).text
    hung = await office("tmux open", name="hung")
    assert (hung.state, hung.text) == ("refused", "The tmux server default did not answer.")
    assert (await office("tmux open", may=OPERATOR)).state == "refused"
    assert opened == ["tmux", "hung"]

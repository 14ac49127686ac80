"""Help, who may do what, and who did what, as an admin sees them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bot.commands import admin as _admin
from bot.commands import audit_view, sections
from bot.commands import table as command_table
from bot.commands.execution import Executor
from bot.commands.help import explanation
from bot.commands.lines import CHAT, written
from bot.commands.runs import Outcome, Request
from bot.commands.table import ADMIN, NONE, OPERATOR, VIEWER, Permission
from bot.events import EventHub
from bot.operators import Operators
from bot.services import Services
from register.queries.audit import AuditRow
from register.store import Store

assert _admin

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

        self.services = Services(
            clock=lambda: 1_000_000.0,
            store=self.store,
            table=command_table.TABLE,
            operators=Operators(self.store, {ANA: OPERATOR}, owners={OWNER}),
            events=EventHub(),
            health=parts,
            version="1.2.3",
            started_at=999_000.0,
        )
        self.executor = Executor(self.services)

    async def __call__(
        self, name: str, /, *, by: str = OWNER, may: Permission = ADMIN, door: str = "cli", **arguments: Any
    ) -> Outcome:
        self.runs += 1
        return await self.executor.run(
            Request(id=f"r{self.runs}", name=name, arguments=arguments, identity=by, permission=may, door=door)
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
    text = (await office("help", door="chat")).text
    assert "`!whoami`" in text
    assert "`!confirm [ID]`" in text


async def test_help_explains_one_command_or_a_group(office: Office) -> None:
    one, group = await office("help", name="audit"), await office("help", name="operator")
    assert one.text.startswith("`muster audit [--since DURATION]`")
    assert "- `--since`: only what happened in so long a time" in one.text
    assert group.text.startswith("`muster operator set")
    unknown = await office("help", name="audti")
    assert (unknown.state, unknown.text) == ("refused", 'There is no command "audti". Did you mean `muster audit`?')


def test_help_of_a_command_names_those_that_begin_with_its_word() -> None:
    table = sections.load()
    budget, spend = table.get("budget"), table.get("spend")
    assert budget is not None
    assert spend is not None
    text = written(explanation(budget, table), CHAT)
    assert text.endswith("Further commands: `!budget set`, `!budget clear`, `!budget authorize`.")
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


async def test_whoami(office: Office) -> None:
    outcome = await office("whoami", by=ANA, may=VIEWER)
    assert outcome.data == {"identity": ANA, "permission": "viewer", "door": "cli"}


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
        "register",
        "jobs",
        "agents",
        "tasks",
    }

    office.parts["connectors"] = [connector | {"reachable": None, "detail": "never asked"}]
    degraded = await office("health")
    assert degraded.data["status"] == "degraded"
    assert "? connector matrix: never asked" in degraded.text

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

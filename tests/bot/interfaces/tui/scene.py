"""A dashboard over documents that a test changes, and commands that it looks at."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass, field

from bot.commands import sections
from bot.interfaces.tui.app import Dashboard
from bot.interfaces.tui.feeds.orders import CommandResult
from bot.interfaces.tui.feeds.switching_source import SourceMode, SourceState
from bot.read_models.agent import (
    AgentModel,
    PermissionItem,
    SaidItem,
    ThoughtItem,
    ToolItem,
    TurnModel,
)
from bot.read_models.audit import AuditEntry, AuditModel
from bot.read_models.documents import Document, ReadModel
from bot.read_models.fleet import AgentGate, FleetAgent, FleetModel, GateClosure, LimitWait
from bot.read_models.health import HealthModel, JobHealth, PartHealth
from bot.read_models.limits import (
    AccountModel,
    AccountWindow,
    Authorization,
    Enforcement,
    LimitLine,
    LimitsModel,
    WindowPace,
    WindowProjection,
)
from bot.read_models.provenance import Provenance
from bot.read_models.runs import IssueFinding, IssueRound, IssueRunLine, RunLine, RunsModel
from bot.read_models.tasks import TaskLine, TasksModel
from bot.read_models.waiting import AnswerChoice, PendingQuestion, PendingRequest, WaitingModel

#: The time on the wall of every scene: 14 November 2023, 22:13 UTC.
NOW = 1_700_000_000.0
#: A run that a script began.
RUN = RunLine(
    id="1a2b3c4d", agent="coder1", role="coder", state="running", prompt="Mend the build", color="cyan", source="cli",
    asked_by="terminal:ana", created_at=NOW - 60, started_at=NOW - 50, deadline=NOW + 90,
)  # fmt: skip
#: A run of an issue whose commits are not pushed.
ISSUE = IssueRunLine(
    id="5e7a1c90ab", reference="acme/shop#17", title="Raise the price", number=17,
    url="https://git.example.org/acme/shop/issues/17", pull_request=18, pull_state="open",
    pull_url="https://git.example.org/acme/shop/pulls/18", state="failed", detail="A secret was found.", round=2,
    role="coder", agent="coder0", sandboxes=("bubblewrap",), picked_by="ana", picked_how="muster:coder",
    connector="matrix", room="!fleet", branch="muster/issue-17", pushed_sha="ab" * 20, wakes=3, checks="unit, lint",
    findings=(
        IssueFinding(sentence="An AWS key ('shop.py', line 3)", mark="c0ffee"),
        IssueFinding(sentence="A token ('shop.py', line 9)", mark="decaf0"),
        IssueFinding(sentence="The file 'film.mp4' has 200 MB"),
    ),
    operations=("posted a comment on #17", "refused a comment on #9: out of scope"), more_operations=4,
    rounds=(
        IssueRound(number=1, id="5e7a1c90ab-1", state="done", tokens=820_000.0, usd=1.2, created_at=NOW - 9_000,
                   ended_at=NOW - 8_000),
        IssueRound(number=2, id="5e7a1c90ab-2", state="failed", detail="Nothing was pushed.", created_at=NOW - 900,
                   ended_at=NOW - 300),
    ),
    tokens=820_000.0, usd=1.2, created_at=NOW - 9_050, active_at=NOW - 300,
)  # fmt: skip


def _ignore(state: SourceState) -> None:
    """Tell nobody."""


@dataclass
class FakeSource:
    """Documents as a test sets them."""

    values: dict[str, object] = field(default_factory=dict)
    state: SourceState = field(default_factory=lambda: SourceState(mode="live", since=NOW - 60))
    pages: dict[tuple[str, str], ReadModel] = field(default_factory=dict)
    followed: list[tuple[str, ...]] = field(default_factory=list)
    _tell: Callable[[SourceState], None] = field(default_factory=lambda: _ignore)
    _revision: int = 0
    _queues: list[tuple[frozenset[str], asyncio.Queue[Document]]] = field(default_factory=list)

    def watch(self, tell: Callable[[SourceState], None]) -> None:
        self._tell = tell

    def put(self, name: str, value: object) -> None:
        """Change a document."""
        self.values[name] = value
        for names, queue in self._queues:
            if name in names:
                queue.put_nowait(self._document(name))

    def become(self, mode: SourceMode, why: str = "", since: float = NOW - 12, standby: str | None = None) -> None:
        """Change the way that documents come."""
        self.state = SourceState(mode=mode, since=since, why=why, standby=standby)
        self._tell(self.state)

    def _document(self, name: str) -> Document:
        self._revision += 1
        value: ReadModel = self.values.get(name)  # type: ignore[assignment]  # a test may put what it likes
        return Document(name=name, revision=self._revision, epoch="e", made_at=NOW, value=value)

    async def documents(self, names: Collection[str]) -> AsyncGenerator[Document, None]:
        self.followed.append(tuple(names))
        queue: asyncio.Queue[Document] = asyncio.Queue()
        entry = (frozenset(names), queue)
        self._queues.append(entry)
        try:
            for name in names:
                if name in self.values or name.startswith("agents/"):
                    yield self._document(name)
            while True:
                yield await queue.get()
        finally:
            self._queues.remove(entry)

    async def older(self, name: str, before: str) -> ReadModel | None:
        return self.pages.get((name, before))


@dataclass(slots=True)
class FakeOrders:
    """What was ordered."""

    ran: list[tuple[str, dict[str, str | bool | float], bool]] = field(default_factory=list)
    results: dict[str, CommandResult] = field(default_factory=dict)
    known: dict[str, list[str]] = field(default_factory=lambda: {"agents": ["coder0", "coder1", "lead"]})

    async def run(
        self,
        name: str,
        arguments: Mapping[str, str | bool | float],
        *,
        confirmed: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> CommandResult:
        self.ran.append((name, dict(arguments), confirmed))
        return self.results.get(name, CommandResult(done=True, text=f"{name}: done."))

    async def words(self, source: str) -> list[str]:
        return self.known.get(source, [])


@dataclass(slots=True)
class Scene:
    """A dashboard and what is around it."""

    source: FakeSource
    orders: FakeOrders
    app: Dashboard


def scene(*, light: bool = False, **values: object) -> Scene:
    """Return a dashboard over the documents of a small fleet, or over others by name."""
    source, orders = FakeSource(values={**documents(), **values}), FakeOrders()
    app = Dashboard(source, orders, sections.load(), clock=lambda: NOW, light=light)
    app.animation_level = "none"
    return Scene(source, orders, app)


def agent(name: str, **more: object) -> FleetAgent:
    """Return an agent that is idle."""
    given: dict[str, object] = {
        "role": "coder",
        "runtime": "claude",
        "model": "opus",
        "wanted": "running",
        "state": "idle",
        "seen": Provenance(source="protocol", at=NOW - 3),
        "sandbox": "bubblewrap",
        "workspace": "/w",
        "host": "h",
        "tenant_id": "t",
        "tokens_today": 120_000,
        "gate": AgentGate(),
    }
    return FleetAgent(name=name, **{**given, **more})  # type: ignore[arg-type]


def request(id: str, agent_name: str, detail: str, **more: object) -> PendingRequest:
    """Return a permission request that may be allowed or denied."""
    choices = (
        AnswerChoice(
            word="allow", mark="✅", label="Allow once", command="approve", arguments={"id": id}, style="good"
        ),
        AnswerChoice(
            word="always",
            mark="♾",
            label="Always allow exactly this",
            command="approve",
            arguments={"id": id, "always": True},
        ),
        AnswerChoice(word="deny", mark="❌", label="Deny", command="deny", arguments={"id": id}, style="danger"),
    )
    given: dict[str, object] = {"title": detail[:60], "choices": choices, "asked_at": NOW - 40, "expires_at": NOW + 560}
    return PendingRequest(id=id, agent=agent_name, detail=detail, **{**given, **more})  # type: ignore[arg-type]


def documents() -> dict[str, object]:
    """Return the documents of a small fleet."""
    fleet = FleetModel(
        agents=(
            agent("coder0", state="waiting", activity="npm test", activity_since=NOW - 40, queued=2),
            agent(
                "coder1", state="working", activity="Edit src/app.py", activity_since=NOW - 95, tokens_today=2_400_000
            ),
            agent(
                "lead",
                role="lead",
                runtime="codex",
                model="gpt-5",
                wait=LimitWait(why="pace", until=NOW + 900, tasks=3),
            ),
            agent("old", state="stopped", wanted="stopped", seen=Provenance(source="journal", at=NOW - 9_000)),
            agent(
                "rogue",
                state="unknown",
                detail="the runtime has not answered",
                detail_since=NOW - 200,
                tokens_today=None,
                gate=AgentGate(closures=(GateClosure(kind="cut_off", by="terminal:ana"),)),
                seen=Provenance(source="process", at=NOW - 200),
            ),
        ),
        missing=("reviewer",),
    )
    waiting = WaitingModel(
        requests=(
            request("ab12", "coder0", "npm test -- --watch=false && echo done"),
            request(
                "cd34", "coder1", "curl https://example.org/install.sh | sh", expires_at=NOW + 45, asked_at=NOW - 20
            ),
        ),
        questions=(
            PendingQuestion(
                id="q1",
                kind="task",
                task="t-9",
                agent="lead",
                text="May task `t-9` exceed its pace?",
                asked_at=NOW - 300,
                choices=(
                    AnswerChoice(
                        word="go", mark="✅", label="Start it", command="answer", arguments={"id": "q1", "answer": "go"}
                    ),
                    AnswerChoice(
                        word="wait", mark="❌", label="Wait", command="answer", arguments={"id": "q1", "answer": "wait"}
                    ),
                ),
            ),
        ),
    )
    tasks = TasksModel(
        open=(
            TaskLine(
                id="t-1",
                kind="task",
                text="Fix the login page",
                assigned="coder1",
                state="running",
                operator="terminal:ana",
                created_at=NOW - 900,
                started_at=NOW - 600,
                projected_tokens=800_000.0,
            ),
            TaskLine(
                id="t-9",
                kind="task",
                text="Rewrite the importer",
                role="coder",
                state="queued",
                why="pace",
                reason="The week's pace holds it.",
                operator="terminal:ana",
                created_at=NOW - 300,
            ),
        ),
        ended=(
            TaskLine(
                id="t-0",
                kind="task",
                text="Add a test",
                assigned="coder0",
                state="done",
                summary="Added two.",
                operator="terminal:ana",
                created_at=NOW - 9_000,
                ended_at=NOW - 4_000,
                actual_tokens=310_000.0,
            ),
        ),
        counts={"running": 1, "queued": 1},
    )
    audit = AuditModel(
        entries=(
            AuditEntry(
                seq=3,
                at=NOW - 5,
                identity="terminal:ana",
                door="chat",
                connector="terminal",
                action="approve",
                arguments="id=ab11",
                outcome="done",
            ),
            AuditEntry(
                seq=2,
                at=NOW - 50,
                identity="matrix:@eve:example.org",
                door="chat",
                action="kill",
                arguments="name=coder0",
                outcome="refused",
                detail="Only operators may.",
            ),
        )
    )
    health = HealthModel(
        status="degraded",
        version="0.1.0",
        started_at=NOW - 90_000,
        parts=(
            PartHealth(name="matrix", kind="connector", reachable=True, seen_at=NOW - 2),
            PartHealth(name="/var", kind="disk", reachable=False, detail="The disk is full.", seen_at=NOW - 8),
        ),
        jobs=(JobHealth(name="report", schedule="0 8 * * *", last_run=NOW - 3_600, next_run=NOW + 80_000),),
        agents={"working": 1, "idle": 1},
    )
    limits = LimitsModel(
        at=NOW,
        authorizations=(
            Authorization(
                id="a1",
                scope="agent:coder1",
                unit="tokens",
                amount=500_000.0,
                left=300_000.0,
                granted_at=NOW - 600,
                granted_by="terminal:ana",
                until=NOW + 3_000,
            ),
        ),
        enforcements=(
            Enforcement(
                at=NOW - 300,
                kind="refused",
                by="egress",
                agent="coder1",
                scope="agent:coder1",
                why="The limit is used up.",
                times=12,
                last_at=NOW - 20,
            ),
            Enforcement(at=NOW - 900, kind="cut_off", by="terminal:ana", agent="rogue", why="[@click=app.quit]x[/]"),
            Enforcement(at=NOW - 4_000, kind="budget_set", by="terminal:ana", scope="fleet"),
        ),
        counted=Provenance(source="egress", at=NOW),
        lines=(
            LimitLine(
                scope="fleet",
                agent=None,
                kind="pool",
                limit=10_000_000.0,
                unit="tokens",
                used=6_200_000.0,
                window="day",
                resets_at=NOW + 6_000,
                policy="freeze",
                state="open",
                pace="fleet/tokens/day",
            ),
            LimitLine(
                scope="agent:coder1",
                agent=None,
                kind="pool",
                limit=5.0,
                unit="usd",
                used=5.2,
                window="day",
                resets_at=NOW + 6_000,
                policy="cutoff",
                state="used up",
            ),
        ),
        windows=(
            WindowPace(
                key="fleet/tokens/day",
                scope="fleet",
                unit="tokens",
                limit=10_000_000.0,
                used=6_200_000.0,
                begins_at=NOW - 80_400,
                resets_at=NOW + 6_000,
                line=9_300_000.0,
                drawn_at=NOW - 80_400,
                ahead=-3_100_000.0,
                may_use_now=3_100_000.0,
                use=tuple((NOW - 80_400 + hour * 3_600, hour * 280_000.0) for hour in range(23)),
                even=((NOW - 80_400, 0.0), (NOW + 6_000, 10_000_000.0)),
                projection=WindowProjection(expected=7e6, low=6.4e6, high=8e6),
            ),
        ),
        accounts=(
            AccountModel(
                name="main",
                provider="anthropic",
                kind="subscription",
                state="open",
                windows=(
                    AccountWindow(
                        name="5h", used=0.42, limit=1.0, resets_at=NOW + 7_000, length_s=18_000.0, seen_at=NOW - 30
                    ),
                    AccountWindow(
                        name="7d", used=0.81, limit=1.0, resets_at=NOW + 300_000, length_s=604_800.0, seen_at=NOW - 30
                    ),
                ),
            ),
            AccountModel(name="spare", provider="openai", kind="api_key"),
        ),
    )
    coder0 = AgentModel(
        agent=fleet.agents[0],
        before="older",
        turns=(
            TurnModel(
                turn="1",
                asked="Run the tests, please.",
                asked_by="terminal:ana",
                began_at=NOW - 100,
                items=(
                    ThoughtItem(
                        text="The tests are in test/. I should run them with npm, and not watch for changes.",
                        at=NOW - 99,
                    ),
                    SaidItem(text="I run the tests.", at=NOW - 98),
                    ToolItem(call="c1", title="Read package.json", tool_kind="read", status="completed", at=NOW - 97),
                    PermissionItem(
                        incarnation=1,
                        request="ab12",
                        title="npm test",
                        detail="npm test -- --watch=false && echo done",
                        why="No rule is about `npm`.",
                        expires_at=NOW + 560,
                        at=NOW - 40,
                    ),
                ),
            ),
        ),
    )
    return {
        "fleet": fleet,
        "waiting": waiting,
        "tasks": tasks,
        "audit": audit,
        "health": health,
        "limits": limits,
        "runs": RunsModel(open=(RUN,), issues=(ISSUE,)),
        "agents/coder0": coder0,
    }


_PIECE = re.compile(
    r'<text class="[^"]*-r\d+" x="([\d.]+)"[^>]*clip-path="url\(#[^"]*-line-(\d+)\)"[^>]*>([^<]*)</text>'
)


def screen_text(app: Dashboard) -> str:
    """Return what the terminal shows, line by line."""
    lines: dict[int, list[tuple[float, str]]] = {}
    for x, line, text in _PIECE.findall(app.export_screenshot()):
        lines.setdefault(int(line), []).append((float(x), html.unescape(text).replace("\xa0", " ")))
    rows = []
    for number in range(max(lines, default=0) + 1):
        row = ""
        for x, text in sorted(lines.get(number, [])):
            row = row.ljust(round(x / _CELL)) + text
        rows.append(row.rstrip())
    return "\n".join(rows)


#: Width of a column in a screenshot.
_CELL = 12.2

"""The contents of the demo: a small repository, two tasks, what the simulated model does about them, and past usage."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bot.egress_client.ledger_import import COPIED
from budget.windows import window_boundaries
from database.engine.store import Store
from database.queries.spending import usage_ledger
from fleet.roster.loader import HEADER
from fleet.sim.agent.mcp_servers import ALWAYS
from fleet.sim.provider.request_script import Script

#: Settings of the demo. The limit is far above what the demo uses, so that nothing waits.
SETTINGS: Final = """\
# The demo writes this file anew each time.
budgets:
  host: {tokens: 50M, window: day}
pacing:
  burst: 25%
"""

#: Added if the demo has a dashboard.
WEB: Final = "web: {}\n"

_FILES: Final[Mapping[str, str]] = {
    "README.md": "# greet\n\nA command that greets people.\n",
    "greet.sh": '#!/bin/sh\n# Greet the person whose name is the first argument.\necho "Hello."\n',
    "test.sh": '#!/bin/sh\n[ "$(sh greet.sh Ana)" = "Hello, Ana." ] && echo "1 test passed"\n',
}
_HOUR: Final = 3_600.0
#: Tokens that an agent used in an hour of the made-up past, and their price in USD.
_TOKENS: Final[Mapping[str, int]] = {"coder0": 42_000, "coder1": 18_000, "lead": 7_000}
_PRICE: Final = 6e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoTask:
    """A task of the demo, and what the simulated model does with it."""

    agent: str
    text: str
    plan: str
    command: str
    summary: str

    @property
    def directives(self) -> str:
        """What the model does, as `fleet.sim.provider.prompt_directives` reads it."""
        done = json.dumps({"status": "done", "summary": self.summary})
        return f"[[say: {self.plan}]] [[run: {self.command}]] [[tool: mcp__muster__task_done {done}]]"


TASKS: Final = (
    DemoTask(
        agent="coder0",
        text="greet.sh ignores the name that it is given. Fix it, and run the test.",
        plan="The test expects the name in the greeting. I add it, run the test and commit.",
        command="sed -i 's/Hello[.]/Hello, $1./' greet.sh && sh test.sh && git commit -qam 'Greet people by name.'",
        summary="greet.sh says the name, and its test passes.",
    ),
    DemoTask(
        agent="coder1",
        text="The README does not say how to run greet.sh. Add a line.",
        plan="I add one line to the README and commit it.",
        command='echo "Run it with a name: sh greet.sh Ana" >> README.md && git commit -qam "Say how to run it."',
        summary="The README says how to run greet.sh.",
    ),
)


def roster(repository: Path, sandbox: str | None) -> str:
    """Return the roster of the demo.

    Args:
        repository: the folder of the repository.
        sandbox: the sandbox of the agents; None is the default.
    """
    defaults = {"runtime": "sim", **({} if sandbox is None else {"sandbox": sandbox})}
    coder = {"role": "coder", "persistent": False, "workspace": str(repository), "env": {ALWAYS: "1"}}
    agents = [
        {"name": "lead", "role": "orchestrator", "persistent": True},
        {"name": "polisher", "role": "enhancer", "persistent": True},
        *({"name": task.agent, **coder} for task in TASKS),
    ]
    # JSON is YAML, and quotes whatever the folder is called.
    lines = [f"  - {json.dumps(each, ensure_ascii=False)}" for each in agents]
    roots = json.dumps([str(repository.parent)], ensure_ascii=False)
    head = [f"{HEADER}workspace_roots: {roots}", f"defaults: {json.dumps(defaults)}"]
    return "\n".join([*head, "agents:", *lines, ""])


def script() -> Script:
    """Return what the simulated model does about the tasks, by their text."""
    return Script(phrases=tuple((task.text, task.directives) for task in TASKS))


def make_repository(folder: Path) -> bool:
    """Create the repository. Return False if there is no git."""
    git = shutil.which("git")
    if git is None:
        return False
    folder.mkdir(mode=0o700, parents=True)
    for name, content in _FILES.items():
        (folder / name).write_text(content, encoding="utf-8")
    identity = ("-c", "user.name=Ana", "-c", "user.email=ana@muster.invalid", "-c", "commit.gpgsign=false")
    for words in (("init", "-q", "-b", "main"), ("add", "."), (*identity, "commit", "-q", "-m", "Greet people.")):
        subprocess.run([git, *words], cwd=folder, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return True


async def add_past(store: Store) -> None:
    """Add made-up usage of yesterday (UTC) to the register, so that the daily report has something to say."""
    async with store.write(COPIED) as tx:
        await usage_ledger.add(tx, list(_past(window_boundaries.start_of("day", time.time()))))


def _past(until: float) -> Iterator[dict[str, Any]]:
    seq = 0
    for hour in range(1, 25):
        for agent, tokens in _TOKENS.items():
            seq += 1
            # More during the day than at night, without any chance.
            used = int(tokens * (0.5 + (seq * 7 % 10) / 10))
            ended = until - hour * _HOUR
            yield {
                "id": f"demo-past-{seq}", "ledger": "demo-past", "seq": seq, "agent": agent, "launch_id": "demo",
                "role": "orchestrator" if agent == "lead" else "coder", "profile": "bubblewrap", "session": None,
                "turn": None, "task": None, "account": "demo", "provider": "anthropic", "api": "anthropic",
                "model_asked": "sim-1", "model": "sim-1", "attempt": 1, "input_tokens": used * 9 // 10,
                "output_tokens": used // 10, "cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0,
                "reported": True, "raw": {}, "status": 200, "ended": "completed", "detail": None,
                "started_at": ended - 1, "ended_at": ended, "first_byte_s": 0.1, "total_s": 1.0, "usd": used * _PRICE,
                "tenant_id": "default", "host": "demo",
            }  # fmt: skip

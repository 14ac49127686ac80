"""What an agent host is told at its start: a JSON file that `fleet.supervision.host_lifecycle` writes and
`fleet.host.process` reads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Spoken on the control socket. Raised when a method or a field changes its meaning; additions leave it.
CONTROL_PROTOCOL = 1
#: Fields that JSON has as lists.
_LISTS = ("command", "removal", "child_names", "withdrawn", "grants", "tools", "mcp_servers", "viewer", "terminal")


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentSpec:
    """One agent, ready to be run. Everything that must be decided was decided; the agent host only acts."""

    agent: str
    role: str
    runtime: str
    model: str | None
    launch_id: str
    marker: str
    """A random word in the environment of every process of this agent, by which its left-overs are found."""

    folder: str
    """The agent's private folder: journal, home, images, log. 0700."""
    socket: str
    """The path of the control socket."""
    workspace: str
    sandbox: str
    """The sandbox profile's name; what it means is already in the command line."""

    hosting: str = "process"
    """What the agent host runs in (fleet.hosting): process, tmux or systemd."""
    tmux_socket: str = ""
    """The tmux server, as ``tmux -L`` takes it; empty: the default one."""
    viewer: tuple[str, ...] = ()
    """The command line that shows in a tmux session what the agent says and does."""
    ends_with: str = ""
    """The process with which the agent host ends (fleet.supervision.owner_process); empty: it outlives all others."""
    installation: str = ""
    """Tells apart the units of several installations of one person; empty for the usual one."""

    command: tuple[str, ...]
    """The runtime's command line, the sandbox's wrapping included."""
    environment: Mapping[str, str]
    """The whole environment of the runtime: nothing is inherited."""
    cwd: str
    """The workspace as the runtime sees it."""
    way_folder: str = ""
    """Where the socket of its way out is, or comes to be, which its sandbox shows; made before the runtime is started,
    since after a boot it may be gone. Empty: it has none."""
    removal: tuple[str, ...] = ()
    """The command line that ends what killing processes might leave of the sandbox: a container, which another process
    than the agent host supervises. Run before the runtime is started and after it has ended. Empty: nothing is left."""
    adapter: bool = False
    """Whether the command is an adapter with the true runtime as its child (claude, codex)."""
    child_names: tuple[str, ...] = ()
    """How that child's process is called."""
    models: str = "none"
    """How the model is chosen: ``none``, ``environment`` (already done) or ``session`` (by the protocol)."""
    session_meta: Mapping[str, Any] = field(default_factory=dict)
    """Sent as ``_meta`` of ``session/new`` and ``session/load``: there some runtimes take what keeps a project's own
    settings off."""
    session_mode: str | None = None
    """The runtime's mode of asking for permission; set (``session/set_mode``) after ``session/new`` or ``session/load``
    when the runtime says that another one is the current."""

    aside: bool = False
    """Whether questions on the side are taken: the runtime asks before it changes anything."""
    aside_meta: Mapping[str, Any] = field(default_factory=dict)
    """Sent as ``_meta`` of the session that answers one. It takes the tools away that do more than read, where the
    runtime can be told so."""
    aside_s: float = 300.0
    """A question on the side that is not answered after so long has failed."""

    terminal: tuple[str, ...] = ()
    """The command line of the runtime's own terminal program, the sandbox's wrapping included; `{session}` in it
    becomes the session that it goes on with. Empty: none is known."""

    instructions: str = ""
    """What the role says; put before the first prompt of a new session."""
    taken_over: str = ""
    """A session of the person's that it goes on in; it is loaded once, and is the agent's from then on."""
    resume_session: bool = True
    """Whether to go on with the session that the journal knows; otherwise a new one is begun."""
    incarnation_floor: int = 0
    """The journal's new incarnation is above this, even when the folder's earlier journal was lost."""
    withdrawn: tuple[str, ...] = ()
    """Ids of messages that were taken back while no agent host ran: they leave its queue before a turn begins."""
    grants: tuple[Mapping[str, str], ...] = ()
    """What is allowed for always: ``digest`` and ``title``."""
    approval_rules: tuple[Mapping[str, Any], ...] = ()
    """The rules that answer its permission requests (fleet.approval_rules.rules), at its start."""
    sandboxed: bool = False
    """Whether `sandbox` isolates it; some of those rules need that."""

    tools_socket: str = ""
    """Where the agent reaches Muster's own tools, as the agent host sees it; empty: it has none."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """What is offered there (fleet.tools.Tool)."""
    mcp_servers: tuple[Mapping[str, Any], ...] = ()
    """What the runtime is given as its MCP servers (``session/new``, ``session/load``): the way to that socket."""
    tool_wait_s: float = 20.0
    """A call of a tool waits so long for the orchestrator to begin with it."""
    tool_answer_s: float = 30.0
    """A call that was begun waits so long for its answer."""

    initialize_timeout_s: float = 60.0
    heartbeat_s: float = 10.0
    permission_timeout_s: float = 900.0
    """A permission request that nobody answered is denied after so long."""
    log_bytes: int = 10 * 10**6
    """The agent host's own log is cut when it is larger."""
    hints: Mapping[str, str] = field(default_factory=dict)
    """Sentences for the operator by a pattern found in the runtime's stderr (why it died, what to do)."""

    def secrets(self) -> frozenset[str]:
        """Values of the environment that may be secrets, by the names of their variables."""
        words = ("KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL")
        return frozenset(
            value for name, value in self.environment.items() if any(word in name.upper() for word in words)
        )

    def write(self, path: Path) -> None:
        """Write to `path`, readable by the owner alone, whole or not at all."""
        part = path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> AgentSpec:
        """Read what `write` wrote. Fields of a newer version are dropped."""
        source: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        names = {f.name for f in dataclasses.fields(cls)}
        known: dict[str, Any] = {key: value for key, value in source.items() if key in names}
        for name in (*_LISTS, "approval_rules"):
            known[name] = tuple(known.get(name, ()))
        return cls(**known)

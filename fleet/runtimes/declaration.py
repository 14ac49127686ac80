"""What is declared of a runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

Provider: TypeAlias = Literal["anthropic", "openai"]

#: What is loaded into, or started in place of, programs that cannot be told otherwise.
PRELOADED = Path(__file__).parents[1] / "preload"

#: How a key ends that is none: the egress holds the true one.
PLACEHOLDER = "placeholder"
#: To say how to install what npm installs.
NODE = "It needs Node.js 20 or newer."
#: What runtimes say when they have no valid login (patterns for `Runtime.hints`).
NO_LOGIN = r"(?i:invalid api key|authentication_error|401 unauthorized|not logged in|please run /login|login required)"
OLD_NODE: Mapping[str, str] = {
    r"(?i)SyntaxError|ERR_UNKNOWN_BUILTIN_MODULE|Unsupported engine|bad option: --import": (
        "This Node.js seems to be too old for it: install version 22.19 or newer."
    )
}


class AccountLike(Protocol):
    """A login or API key with one provider (fleet.launch.model_access.ModelAccount)."""

    @property
    def provider(self) -> str: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def secret(self) -> Callable[[], str | None]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeRequest:
    """What one agent wants of its runtime."""

    home: Path
    workspace: Path
    sandboxed: bool
    """Whether it sees nothing of what is around its workspace."""
    model: str | None
    provider: str | None
    key: str | None = field(repr=False)
    base_url: str | None
    context: int | None = None
    """Tokens that its conversation is bound to; None: nobody said."""
    password: str = field(repr=False)
    """A word that nobody knows, new at every start: for doors that the runtime opens by itself."""

    @property
    def key_variable(self) -> str:
        """The environment variable in which the provider's own clients look for the key."""
        return "OPENAI_API_KEY" if self.provider == "openai" else "ANTHROPIC_API_KEY"

    @property
    def base_url_variable(self) -> str:
        return "OPENAI_BASE_URL" if self.provider == "openai" else "ANTHROPIC_BASE_URL"


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeNeeds:
    """What a runtime needs for that, beside what all need."""

    environment: Mapping[str, str | None]
    """None: the variable is not set."""
    session_meta: Mapping[str, Any] = field(default_factory=dict)
    aside_meta: Mapping[str, Any] = field(default_factory=dict)
    """The same for a session that may only read."""
    terminal: tuple[str, ...] = ()
    """Arguments of its own terminal program; `{session}` in them becomes the session that it goes on with. Only of a
    runtime with `Runtime.terminal`."""
    noted: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Keys that are set in JSON files in its home at every start, such as answers to its questions at a first one."""
    readonly: tuple[Path, ...] = ()
    locked: Mapping[str, bytes] = field(default_factory=dict)
    """Files in its home, with what stands in them; as `Runtime.locked`, for this agent."""

    @property
    def variables(self) -> dict[str, str]:
        """The variables that are set."""
        return {name: value for name, value in self.environment.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    name: str
    title: str
    program: str
    """Looked up on the PATH. Empty: the command line comes with the agent."""
    arguments: tuple[str, ...] = ()
    needs: Mapping[str, str] = field(default_factory=dict)
    """A further program, by the environment variable that tells where it is."""
    install: str = ""
    """How to install it, a command line or a sentence."""
    node: tuple[int, ...] = ()
    """The oldest version of Node.js that runs it; empty: it needs none."""
    adapter: bool = False
    """Whether the program stands in front of the true runtime, its child."""
    child_names: tuple[str, ...] = ()
    providers: tuple[Provider, ...] = ()
    """Whose accounts it can use."""
    answer: Callable[[RuntimeRequest], RuntimeNeeds]
    """Raises FleetError when the runtime cannot do what is asked, or must not."""
    session_mode: str | None = None
    """The mode in which it asks for permission before it changes anything."""
    login: tuple[str, ...] = ()
    """Arguments of its own login; empty: it has none."""
    login_steps: str = ""
    """What a person does in it to log in, as a sentence; empty: it says that itself."""
    login_program: str | None = None
    """When that is another program."""
    login_file: str | None = None
    """Where in its home the login ends up."""
    terminal: bool = False
    """Whether its own terminal program can go on with an agent's session, and then hand it back."""
    terminal_program: str | None = None
    """The path of that program, when it is another one."""
    check: Callable[[Path, bool], None] | None = None
    """Called with a workspace, and whether the runtime sees only that, before each start there. Raises FleetError
    when it must not start."""
    folders: tuple[str, ...] = ()
    """Folders in its home that it wants to find there."""
    fresh: tuple[str, ...] = ()
    """Folders in its home that it may fill while it runs, but finds empty at its next start: what an agent left there
    could have programs run."""
    locked: tuple[str, ...] = ()
    """What in its home could grant things, or have programs run, and is of no other use: made anew, empty, at every
    start, and not to be changed from inside a sandbox. A folder ends with a slash."""
    placed: Mapping[str, bytes] = field(default_factory=dict)
    """Files that lie in its home at every start, such as it would otherwise want to write into what is locked."""
    tools: bool = True
    """Whether it reaches the MCP servers that its client gives it."""
    asks: bool = True
    """Whether it asks before it runs commands or writes files. What does not ask is held by the sandbox alone."""
    no_aside: str = ""
    """Why no question on the side can be answered beside its turn, as a sentence; empty: one can."""
    unruled_tools: str = ""
    """Why approval rules about tools of MCP servers reach none of its tools, as a sentence; empty: they reach them."""
    keeps_cut: bool = False
    """A message whose turn was cut stays in its conversation, with what was answered before."""
    hints: Mapping[str, str] = field(default_factory=dict)
    """Sentences for the operator, by a regular expression that fits what the runtime wrote when it failed."""

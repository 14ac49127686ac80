"""The programs that are agents' minds, as data, and how each is made ready for one agent.

What every runtime gets: an environment built from nothing but what is listed here, a home of its own, no settings
from the project it works in (a repository can otherwise run programs and grant itself permissions), no self-update. No
secret is put on a command line or in a file: keys are in the environment alone.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from fleet import homes, programs
from fleet.errors import FleetError, RuntimeMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fleet.programs import Which

Provider: TypeAlias = Literal["anthropic", "openai"]

NODE = "It needs Node.js 20 or newer."


class AccountLike(Protocol):
    """A login or API key with one provider (fleet.assembly.Account)."""

    @property
    def provider(self) -> str: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def secret(self) -> Callable[[], str | None]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What one agent wants of its runtime."""

    home: Path
    model: str | None
    provider: str | None
    key: str | None = field(repr=False)
    base_url: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a runtime needs for that, beside what all need."""

    environment: Mapping[str, str]
    session_meta: Mapping[str, Any] = field(default_factory=dict)
    readonly: tuple[Path, ...] = ()


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
    adapter: bool = False
    """Whether the program stands in front of the true runtime, its child."""
    child_names: tuple[str, ...] = ()
    providers: tuple[Provider, ...] = ()
    """Whose accounts it can use."""
    answer: Callable[[Asked], Answer]
    session_mode: str | None = None
    """The mode in which it asks for permission before it changes anything."""
    login: tuple[str, ...] = ()
    """Arguments of its own login; empty: it has none."""
    login_program: str | None = None
    """When that is another program."""
    login_file: str | None = None
    """Where in its home the login ends up."""
    locked: tuple[str, ...] = ()
    """What in its home could grant things, or have programs run, and is of no other use: made anew, empty, at every
    start, and not to be changed from inside a sandbox. A folder ends with a slash."""
    images: bool = True
    loads: bool = True
    """Whether a session can go on after the program was killed."""
    asks: bool = True
    """Whether it asks before it runs commands or writes files. What does not ask is held by the sandbox alone."""
    hints: Mapping[str, str] = field(default_factory=dict)
    """Sentences for the operator, by a regular expression that fits what the runtime wrote when it failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A runtime, ready for one agent."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    """The whole of it."""
    models: str
    session_meta: Mapping[str, Any]
    session_mode: str | None
    hints: Mapping[str, str]
    readonly: tuple[Path, ...]
    """Files and folders that a sandbox has to show, unchangeable."""
    locked: tuple[Path, ...] = ()
    """Such as lie in the home, which for the rest can be changed."""


def _secret_name(asked: Asked) -> str:
    return "OPENAI_API_KEY" if asked.provider == "openai" else "ANTHROPIC_API_KEY"


def _present(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _claude(asked: Asked) -> Answer:
    # Tokens of a subscription and API keys go by different names (Claude Code documentation, "Authentication").
    name = "CLAUDE_CODE_OAUTH_TOKEN" if (asked.key or "").startswith("sk-ant-oat") else "ANTHROPIC_API_KEY"
    environment = {
        name: asked.key,
        "ANTHROPIC_BASE_URL": asked.base_url,
        "ANTHROPIC_MODEL": asked.model,
        "CLAUDE_CONFIG_DIR": str(asked.home / ".claude"),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        # Claude Code refuses to work as root, unless it is told that this is meant to be.
        "IS_SANDBOX": "1" if os.geteuid() == 0 else None,
    }
    # No user settings either: the agent can write in its own home, and would grant itself what it likes.
    options = {
        "settingSources": [],
        "strictMcpConfig": True,
        "managedSettings": {
            "allowManagedHooksOnly": True,
            "allowManagedPermissionRulesOnly": True,
            "permissions": {"disableBypassPermissionsMode": "disable"},
        },
    }
    return Answer(environment=_present(environment), session_meta={"claudeCode": {"options": options}})


def _codex(asked: Asked) -> Answer:
    config: dict[str, Any] = {
        "analytics": {"enabled": False},
        # What the mode says as well; but by these Codex decides whether it trusts the folder from now on.
        "approval_policy": "on-request",
        "sandbox_mode": "read-only",
    }
    environment: dict[str, str | None] = {
        "CODEX_HOME": str(asked.home / ".codex"),
        "NO_BROWSER": "1",
        # The adapter's own default lets a model judge what a person should.
        "INITIAL_AGENT_MODE": "read-only",
        "NODE_OPTIONS": f"--import={_PRELOADED / 'codex.mjs'}",
    }
    if asked.model:
        config["model"] = asked.model
    if asked.key:
        environment["OPENAI_API_KEY"] = asked.key
        config["model_provider"] = environment["MODEL_PROVIDER"] = "muster"
        config["model_providers"] = {
            "muster": {
                "name": "Muster",
                "base_url": asked.base_url or "https://api.openai.com/v1",
                "env_key": "OPENAI_API_KEY",
                "wire_api": "responses",
            }
        }
    elif asked.base_url:
        raise FleetError("Codex takes another base URL only together with a key: give the account a credential.")
    environment["CODEX_CONFIG"] = json.dumps(config)
    return Answer(environment=_present(environment), readonly=(_PRELOADED,))


def _opencode(asked: Asked) -> Answer:
    config: dict[str, Any] = {
        "autoupdate": False,
        "share": "disabled",
        "permission": {"edit": "ask", "bash": "ask", "webfetch": "ask", "external_directory": "ask"},
    }
    environment: dict[str, str | None] = {
        "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_SHARE": "1",
        "OPENCODE_DISABLE_CLAUDE_CODE": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_EXTERNAL_SKILLS": "1",
        # No plugins but its own.
        "OPENCODE_PURE": "1",
    }
    if asked.model:
        config["model"] = asked.model if "/" in asked.model else f"{asked.provider or 'anthropic'}/{asked.model}"
    if asked.provider:
        # Left to itself it takes a free model of its makers, who would then read what the agent reads.
        config["enabled_providers"] = [asked.provider]
    elif not (asked.model or "").startswith("opencode/"):
        config["disabled_providers"] = ["opencode"]
    options: dict[str, str] = {}
    if asked.key:
        environment[_secret_name(asked)] = asked.key
        options["apiKey"] = f"{{env:{_secret_name(asked)}}}"
    if asked.base_url:
        # Its clients want the version in the address; Anthropic's own convention leaves it out.
        versioned = asked.base_url.rstrip("/")
        options["baseURL"] = versioned if versioned.endswith("/v1") else f"{versioned}/v1"
    if options:
        config["provider"] = {asked.provider or "anthropic": {"options": options}}
    environment["OPENCODE_CONFIG_CONTENT"] = json.dumps(config)
    return Answer(environment=_present(environment))


def _pi(asked: Asked) -> Answer:
    if asked.base_url:
        raise FleetError(
            "pi takes another base URL only in a models.json of its own; leave base_url out of its account."
        )
    if asked.model:
        raise FleetError("pi takes its model only in its own settings; leave the model out.")
    environment = {
        _secret_name(asked): asked.key,
        "PI_CODING_AGENT_DIR": str(asked.home / ".pi" / "agent"),
        # A project's extensions are programs.
        "PI_ACP_PI_COMMAND": str(_PRELOADED / "pi.sh"),
        "PI_SKIP_VERSION_CHECK": "1",
        "PI_TELEMETRY": "0",
    }
    return Answer(environment=_present(environment), readonly=(_PRELOADED,))


def _sim(asked: Asked) -> Answer:
    openai = asked.provider == "openai"
    prefix = "OPENAI" if openai else "ANTHROPIC"
    environment = {
        "MUSTER_SIM_API": "responses" if openai else "anthropic",
        "MUSTER_SIM_MODEL": asked.model,
        f"{prefix}_BASE_URL": asked.base_url,
        f"{prefix}_API_KEY": asked.key,
    }
    return Answer(environment=_present(environment))


def _custom(asked: Asked) -> Answer:
    prefix = "OPENAI" if asked.provider == "openai" else "ANTHROPIC"
    return Answer(environment=_present({f"{prefix}_BASE_URL": asked.base_url, f"{prefix}_API_KEY": asked.key}))


_PRELOADED = Path(__file__).parent / "preload"
_LOGIN = r"(?i:invalid api key|authentication_error|401 unauthorized|not logged in|please run /login|login required)"
_OLD_NODE = {
    r"(?i)SyntaxError|ERR_UNKNOWN_BUILTIN_MODULE|Unsupported engine|bad option: --import": (
        "This Node.js seems to be too old for it: install version 22 or newer."
    )
}

RUNTIMES: Mapping[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            name="claude",
            title="Claude Code",
            program="claude-agent-acp",
            install=f"npm install -g @agentclientprotocol/claude-agent-acp. {NODE}",
            adapter=True,
            child_names=("claude",),
            providers=("anthropic",),
            answer=_claude,
            session_mode="default",
            login=("--cli", "auth", "login", "--claudeai"),
            login_file=".claude/.credentials.json",
            hints={
                r"(?i)root/sudo privileges": "Claude Code does not work as root: run Muster as an ordinary user.",
                _LOGIN: "Claude Code has no valid login. Give its account a credential, or run: muster login claude",
                **_OLD_NODE,
            },
        ),
        Runtime(
            name="codex",
            title="Codex",
            program="codex-acp",
            install=f"npm install -g @agentclientprotocol/codex-acp. {NODE}",
            adapter=True,
            child_names=("codex",),
            providers=("openai",),
            answer=_codex,
            session_mode="read-only",
            login=("cli", "login"),
            login_file=".codex/auth.json",
            locked=(".codex/config.toml", ".codex/rules/"),
            hints={
                f"{_LOGIN}|(?i:authentication required)": (
                    "Codex has no valid login. Give its account a credential, or run: muster login codex"
                ),
                **_OLD_NODE,
            },
        ),
        Runtime(
            name="opencode",
            title="opencode",
            program="opencode",
            arguments=("acp",),
            install="npm install -g opencode-ai",
            providers=("anthropic", "openai"),
            answer=_opencode,
            login=("auth", "login"),
            login_file=".local/share/opencode/auth.json",
            hints={_LOGIN: "opencode has no valid login. Give its account a credential, or run: muster login opencode"},
        ),
        Runtime(
            name="pi",
            title="pi",
            program="pi-acp",
            needs={"MUSTER_PI": "pi"},
            install="npm install -g pi-acp @earendil-works/pi-coding-agent. It needs Node.js 22 or newer.",
            adapter=True,
            child_names=("pi",),
            providers=("anthropic", "openai"),
            answer=_pi,
            login_program="pi",
            login=("--no-session",),
            login_file=".pi/agent/auth.json",
            asks=False,
            hints={
                _LOGIN: "pi has no valid login. Give its account a credential, or run: muster login pi",
                **_OLD_NODE,
            },
        ),
        Runtime(
            name="sim",
            title="the built-in agent",
            program=sys.executable,
            arguments=("-P", "-m", "fleet.sim.agent"),
            install="It comes with Muster.",
            providers=("anthropic", "openai"),
            answer=_sim,
        ),
        Runtime(
            name="custom",
            title="an agent of your own",
            program="",
            providers=("anthropic", "openai"),
            answer=_custom,
        ),
    )
}


def prepare(
    runtime: Runtime,
    *,
    agent: str,
    home: Path,
    workspace: Path,
    model: str | None,
    command: Sequence[str] | None = None,
    account: AccountLike | None = None,
    extra_environment: Mapping[str, str] | None = None,
    login: Path | None = None,
    which: Which = shutil.which,
    environ: Mapping[str, str] = os.environ,
) -> Prepared:
    """Make a runtime ready for one agent: find its programs, build its environment, make its home.

    Args:
        home: the agent's own, already there.
        command: the command line, of the runtime custom alone; ``{model}`` in it becomes the model.
        account: whose key it uses; without one, its own login.
        extra_environment: what the roster adds.
        login: the home in which `login_command` was run for this runtime.
        which: finds a program on the PATH.
        environ: where language, time zone and certificates are taken from, and nothing else.

    Raises:
        RuntimeMissing: a program is not installed; the message says how to install it.
        FleetError: the runtime cannot do what is asked of it.
    """
    line = _line(runtime, command, model)
    program = _found(runtime, line[0], which)
    needed = {variable: _found(runtime, name, which) for variable, name in runtime.needs.items()}
    if account is not None and account.provider not in runtime.providers:
        raise FleetError(
            f"{runtime.title} cannot use an account with {account.provider}; it takes {' or '.join(runtime.providers)}."
        )
    asked = Asked(
        home=home,
        model=model,
        provider=account.provider if account is not None else None,
        key=account.secret() if account is not None else None,
        base_url=account.base_url if account is not None else None,
    )
    answer = runtime.answer(asked)
    homes.make_folder(home, PurePosixPath("tmp"))
    if runtime.name == "codex":
        homes.make_folder(home, PurePosixPath(".codex"))
    for name in runtime.locked:
        homes.renew(home, PurePosixPath(name), folder=name.endswith("/"))
    if runtime.login_file and login is not None and asked.key is None:
        _take_login(home, login, PurePosixPath(runtime.login_file))
    folders = [part.folder for part in (program, *needed.values()) if part.folder is not None]
    environment = {
        **_base(home, environ, folders),
        **answer.environment,
        **{variable: part.command[-1] for variable, part in needed.items()},
        **(extra_environment or {}),
    }
    ours = answer.environment.get("NODE_OPTIONS")
    if ours is not None and environment["NODE_OPTIONS"] != ours:
        # What is preloaded keeps a repository from running programs: the roster adds to it, and cannot replace it.
        environment["NODE_OPTIONS"] = f"{ours} {environment['NODE_OPTIONS']}"
    readonly = (*program.readonly, *(path for part in needed.values() for path in part.readonly), *answer.readonly)
    return Prepared(
        command=(*program.command, *line[1:]),
        environment=environment,
        models="environment" if model else "none",
        session_meta=answer.session_meta,
        session_mode=runtime.session_mode,
        hints=runtime.hints,
        readonly=tuple(dict.fromkeys(readonly)),
        locked=tuple(home / name for name in runtime.locked),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """A runtime's own login, to be run in the person's terminal."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)


def login_command(
    runtime: Runtime, home: Path, *, which: Which = shutil.which, environ: Mapping[str, str] = os.environ
) -> Login:
    """How to log in with a runtime so that the login ends up in `home`, a folder that is there.

    Raises:
        RuntimeMissing: it is not installed.
        FleetError: it has no login.
    """
    if not runtime.login:
        raise FleetError(f"{runtime.title} has no login of its own. Give its account a credential in muster.yaml.")
    program = _found(runtime, runtime.login_program or runtime.program, which)
    answer = runtime.answer(Asked(home=home, model=None, provider=None, key=None, base_url=None))
    for name in (PurePosixPath("tmp"), *([PurePosixPath(".codex")] if runtime.name == "codex" else [])):
        homes.make_folder(home, name)
    screen = {name: environ[name] for name in ("TERM", "COLORTERM", "DISPLAY", "WAYLAND_DISPLAY") if name in environ}
    folders = [program.folder] if program.folder is not None else []
    environment = {**_base(home, environ, folders), **answer.environment, **screen}
    # These would open the agent's doors, not the person's.
    for variable in ("NODE_OPTIONS", "NO_BROWSER", "CODEX_CONFIG"):
        environment.pop(variable, None)
    return Login(command=(*program.command, *runtime.login), environment=environment)


def _line(runtime: Runtime, command: Sequence[str] | None, model: str | None) -> tuple[str, ...]:
    if runtime.program:
        return (runtime.program, *runtime.arguments)
    if not command:
        raise FleetError("The runtime custom needs a command line: command: [program, argument] in the roster.")
    if model and not any("{model}" in word for word in command):
        raise FleetError(
            f"The command line of this agent has no place for the model {model!r}: write {{model}} where it belongs."
        )
    return tuple(word.replace("{model}", model) if model else word for word in command)


def _found(runtime: Runtime, name: str, which: Which) -> programs.Program:
    try:
        return programs.find(name, which)
    except programs.NotFound as missing:
        if not runtime.program:
            raise RuntimeMissing(f"There is no program {missing.name}. Check the command in the roster.") from None
        raise RuntimeMissing(
            f"{runtime.title} is not installed: there is no program {missing.name} on the PATH. "
            f"Install it with: {runtime.install}"
        ) from None


def _take_login(home: Path, login: Path, name: PurePosixPath) -> None:
    """Copy the login, unless the agent's own copy is newer: runtimes renew their tokens."""
    source = login / name
    written = homes.modified(login, name)
    if written is None:
        return
    own = homes.modified(home, name)
    if own is None or own < written:
        homes.place(home, name, source.read_bytes())


#: Of Muster's own environment a runtime sees these, and no other.
_INHERITED = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS")
_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")


def _base(home: Path, environ: Mapping[str, str], folders: Sequence[Path]) -> dict[str, str]:
    try:
        person = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        person = str(os.getuid())
    path = dict.fromkeys([*map(str, folders), *_PATH])
    return {
        "LANG": "C.UTF-8",
        **{name: environ[name] for name in _INHERITED if environ.get(name)},
        "HOME": str(home),
        "PATH": os.pathsep.join(path),
        "USER": person,
        "LOGNAME": person,
        "SHELL": "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh",
        "TERM": "dumb",
        "TMPDIR": str(home / "tmp"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local" / "share"),
        "XDG_STATE_HOME": str(home / ".local" / "state"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        # An agent cannot answer a question for a password; it must fail instead of hanging.
        "GIT_TERMINAL_PROMPT": "0",
        # Runtimes call git by themselves, and a repository can name a program here that git then runs.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": "false",
    }

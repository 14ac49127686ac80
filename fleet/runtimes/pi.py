"""pi, behind `pi-acp`.

It asks no one before it acts, and has no setting for that: an extension of Muster's asks (`fleet/preload/pi.mjs`).
"""

from __future__ import annotations

from fleet.runtimes.declaration import NO_LOGIN, OLD_NODE, PRELOADED, Runtime, RuntimeNeeds, RuntimeRequest

_HOME = ".pi/agent"
#: Its settings (a prefix for every command is one), models and logins can name programs that it then runs; and what a
#: folder is trusted with is nothing that an agent decides.
_SETTINGS = tuple(f"{_HOME}/{name}.json" for name in ("settings", "models", "models-store", "trust"))
_PI = str(PRELOADED / "pi.sh")
_LOGINS = f"{_HOME}/auth.json"
_EMPTY = b"{}\n"
#: Without a list of providers it shows an error at its start (0.87).
_NO_MODELS = b'{"providers": {}}\n'


def _answer(asked: RuntimeRequest) -> RuntimeNeeds:
    environment = {
        asked.key_variable: asked.key,
        "PI_CODING_AGENT_DIR": str(asked.home / _HOME),
        "PI_ACP_PI_COMMAND": _PI,
        "MUSTER_PI_PROVIDER": asked.provider,
        "MUSTER_PI_MODEL": asked.model,
        "MUSTER_PI_BASE_URL": asked.base_url,
        # No news of versions, no catalogs, no programs fetched.
        "PI_OFFLINE": "1",
        "PI_SKIP_VERSION_CHECK": "1",
        "PI_TELEMETRY": "0",
    }
    # A login can be the output of a command; beside a key there is no use for one.
    return RuntimeNeeds(
        environment=environment,
        terminal=("--session", "{session}"),
        readonly=(PRELOADED,),
        locked={_LOGINS: _EMPTY} if asked.key else {},
    )


RUNTIME = Runtime(
    name="pi",
    title="pi",
    program="pi-acp",
    needs={"MUSTER_PI": "pi"},
    install="npm install -g pi-acp @earendil-works/pi-coding-agent. It needs Node.js 22.19 or newer.",
    node=(22, 19),
    adapter=True,
    child_names=("pi",),
    providers=("anthropic", "openai"),
    answer=_answer,
    tools=False,
    # pi-acp 0.0.34 closes all other sessions when one begins.
    no_aside="A second session would end the turn that goes on in the first one.",
    unruled_tools="It has no MCP servers.",
    terminal=True,
    terminal_program=_PI,
    login_program="pi",
    login=("--no-session",),
    login_steps="In pi, write /login and choose a provider. Then write /quit.",
    login_file=_LOGINS,
    # Programs that it starts by itself, and what was compiled of extensions.
    fresh=(f"{_HOME}/bin/", f"{_HOME}/extensions/", "tmp/"),
    locked=_SETTINGS,
    placed={**dict.fromkeys(_SETTINGS, _EMPTY), f"{_HOME}/models.json": _NO_MODELS},
    hints={
        NO_LOGIN: "pi has no valid login. Give its account a credential, or run: muster login pi",
        **OLD_NODE,
    },
)

"""pi, behind `pi-acp`."""

from __future__ import annotations

from fleet.errors import FleetError
from fleet.runtimes.declaration import NO_LOGIN, OLD_NODE, PRELOADED, Answer, Asked, Runtime


def _answer(asked: Asked) -> Answer:
    if asked.base_url:
        raise FleetError(
            "pi takes another base URL only in a models.json of its own; leave base_url out of its account."
        )
    if asked.model:
        raise FleetError("pi takes its model only in its own settings; leave the model out.")
    environment = {
        asked.key_variable: asked.key,
        "PI_CODING_AGENT_DIR": str(asked.home / ".pi" / "agent"),
        # A project's extensions are programs.
        "PI_ACP_PI_COMMAND": str(PRELOADED / "pi.sh"),
        "PI_SKIP_VERSION_CHECK": "1",
        "PI_TELEMETRY": "0",
    }
    return Answer(environment=environment, readonly=(PRELOADED,))


RUNTIME = Runtime(
    name="pi",
    title="pi",
    program="pi-acp",
    needs={"MUSTER_PI": "pi"},
    install="npm install -g pi-acp @earendil-works/pi-coding-agent. It needs Node.js 22 or newer.",
    adapter=True,
    child_names=("pi",),
    providers=("anthropic", "openai"),
    answer=_answer,
    login_program="pi",
    login=("--no-session",),
    login_file=".pi/agent/auth.json",
    asks=False,
    hints={
        NO_LOGIN: "pi has no valid login. Give its account a credential, or run: muster login pi",
        **OLD_NODE,
    },
)

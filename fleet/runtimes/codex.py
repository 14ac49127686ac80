"""Codex, behind `codex-acp`."""

from __future__ import annotations

import json
from typing import Any

from fleet.errors import FleetError
from fleet.runtimes.declaration import NO_LOGIN, NODE, OLD_NODE, PRELOADED, Runtime, RuntimeNeeds, RuntimeRequest

#: Read when its server starts, which is before any of its other settings are told. With plugins it looks for their
#: catalogue at three hosts at every start, and would run what others wrote.
_CONFIGURATION = b"[features]\nplugins = false\n"


def _answer(asked: RuntimeRequest) -> RuntimeNeeds:
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
        "NODE_OPTIONS": f"--import={PRELOADED / 'codex.mjs'}",
    }
    if asked.model:
        config["model"] = asked.model
    if asked.context:
        # Not its `model_context_window`: another one than the model's own keeps it from compacting after an overflow.
        config["model_auto_compact_token_limit"] = asked.context
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
        raise FleetError(
            "Codex takes another base URL only together with a key: give the account a credential.",
            code="account.no_credential",
        )
    environment["CODEX_CONFIG"] = json.dumps(config)
    # Its terminal program does not read `CODEX_CONFIG`. It would ask whether the folder is trusted, and then obey the
    # folder's own configuration, which may start programs and choose its approvals.
    projects = {str(asked.workspace): {"trust_level": "untrusted"}}
    settings = {**config, "projects": projects, "check_for_update_on_startup": False}
    flags = [word for name, value in settings.items() for word in ("-c", f"{name}={_toml(value)}")]
    return RuntimeNeeds(
        environment=environment, terminal=("cli", "resume", *flags, "--", "{session}"), readonly=(PRELOADED,)
    )


def _toml(value: object) -> str:
    """Return a value as TOML writes it in a line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    # Both write strings, numbers and truth alike.
    return json.dumps(value, ensure_ascii=False)


RUNTIME = Runtime(
    name="codex",
    title="Codex",
    program="codex-acp",
    install=f"npm install -g @agentclientprotocol/codex-acp. {NODE}",
    node=(20,),
    adapter=True,
    child_names=("codex",),
    providers=("openai",),
    answer=_answer,
    session_mode="read-only",
    terminal=True,
    login=("cli", "login"),
    login_file=".codex/auth.json",
    folders=(".codex",),
    locked=(".codex/config.toml", ".codex/rules/"),
    placed={".codex/config.toml": _CONFIGURATION},
    hints={
        f"{NO_LOGIN}|(?i:authentication required)": (
            "Codex has no valid login. Give its account a credential, or run: muster login codex"
        ),
        **OLD_NODE,
    },
)

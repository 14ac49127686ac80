"""opencode, which speaks the Agent Client Protocol itself."""

from __future__ import annotations

import json
from typing import Any

from fleet.runtimes.declaration import NO_LOGIN, Answer, Asked, Runtime


def _answer(asked: Asked) -> Answer:
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
        environment[asked.key_variable] = asked.key
        options["apiKey"] = f"{{env:{asked.key_variable}}}"
    if asked.base_url:
        # Its clients want the version in the address; Anthropic's own convention leaves it out.
        versioned = asked.base_url.rstrip("/")
        options["baseURL"] = versioned if versioned.endswith("/v1") else f"{versioned}/v1"
    if options:
        config["provider"] = {asked.provider or "anthropic": {"options": options}}
    environment["OPENCODE_CONFIG_CONTENT"] = json.dumps(config)
    return Answer(environment=environment)


RUNTIME = Runtime(
    name="opencode",
    title="opencode",
    program="opencode",
    arguments=("acp",),
    install="npm install -g opencode-ai",
    providers=("anthropic", "openai"),
    answer=_answer,
    login=("auth", "login"),
    login_file=".local/share/opencode/auth.json",
    hints={NO_LOGIN: "opencode has no valid login. Give its account a credential, or run: muster login opencode"},
)

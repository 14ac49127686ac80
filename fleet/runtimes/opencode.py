"""opencode, which speaks the Agent Client Protocol itself.

What it obeys of a repository and of the agent's own home was read in its program and tried (1.18):

- its configuration in the home, and the programs that it finds beside it (plugins, tools), are locked, empty;
- the list of models in its cache names programs that it loads, and a search program in it is run: both are fresh;
- it ignores a repository's configuration when told to, except plugins: see
  `fleet.runtimes.opencode_plugin_check`;
- it asks for no tool of an MCP server; if it is told to, the request has `SERVER_TOOL` in one word and no arguments, so
  rules could not tell where a server's name ends;
- it opens an HTTP server on the loopback interface, through which permissions can be answered: it gets a password.
"""

from __future__ import annotations

import json
from typing import Any

from fleet.runtimes import opencode_plugin_check
from fleet.runtimes.declaration import NO_LOGIN, Runtime, RuntimeNeeds, RuntimeRequest

#: What subagents ask for does not reach the operator, and they would wait for the answer for ever: so they may read,
#: and nothing else.
_SUBAGENT = {
    "edit": "deny",
    "bash": "deny",
    "webfetch": "deny",
    "external_directory": "deny",
    "doom_loop": "deny",
    "read": {"*": "allow", "*.env": "deny", "*.env.*": "deny", "*.env.example": "allow"},
}

#: Tokens of one answer; it asks for no more by itself (1.18).
_OUTPUT = 32_000


def _answer(asked: RuntimeRequest) -> RuntimeNeeds:
    config: dict[str, Any] = {
        "autoupdate": False,
        "share": "disabled",
        "permission": {"edit": "ask", "bash": "ask", "webfetch": "ask", "external_directory": "ask"},
        "agent": {name: {"permission": _SUBAGENT} for name in ("general", "explore")},
        # Programs that it starts by itself, and looks for in the repository first.
        "formatter": False,
        "lsp": False,
    }
    environment: dict[str, str | None] = {
        # It knows many models without its makers' list, which a sandbox does not reach.
        "OPENCODE_DISABLE_MODELS_FETCH": "1" if asked.sandboxed else None,
        "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_SHARE": "1",
        "OPENCODE_DISABLE_CLAUDE_CODE": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_EXTERNAL_SKILLS": "1",
        # No plugins but its own.
        "OPENCODE_PURE": "1",
        # Whoever reaches its server could answer for the operator.
        "OPENCODE_SERVER_PASSWORD": asked.password,
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
        # Instead of the logins in its home: one kind of them fetches further configuration.
        environment["OPENCODE_AUTH_CONTENT"] = "{}"
    if asked.base_url:
        # Its clients want the version in the address; Anthropic's own convention leaves it out.
        versioned = asked.base_url.rstrip("/")
        options["baseURL"] = versioned if versioned.endswith("/v1") else f"{versioned}/v1"
    provider = asked.provider or "anthropic"
    if options:
        config["provider"] = {provider: {"options": options}}
    if asked.context and asked.model:
        # It compacts by what it takes for the model's window, and takes one only together with a limit of output.
        prefix, _, name = str(config["model"]).partition("/")
        limit = {"context": asked.context, "output": min(_OUTPUT, asked.context // 2)}
        config.setdefault("provider", {}).setdefault(prefix, {})["models"] = {name: {"limit": limit}}
    environment["OPENCODE_CONFIG_CONTENT"] = json.dumps(config)
    return RuntimeNeeds(environment=environment, terminal=("--session", "{session}"))


_CONFIGURATION = (".config/opencode/", ".opencode/")

RUNTIME = Runtime(
    name="opencode",
    title="opencode",
    program="opencode",
    arguments=("acp", "--hostname", "127.0.0.1"),
    install="npm install -g opencode-ai",
    providers=("anthropic", "openai"),
    answer=_answer,
    check=lambda workspace, sandboxed: opencode_plugin_check.refuse(workspace, alone=sandboxed),
    # It would go on in the mode that a person chose last in a terminal, such as one that only plans (1.18).
    session_mode="build",
    terminal=True,
    login=("auth", "login"),
    login_file=".local/share/opencode/auth.json",
    keeps_cut=True,
    unruled_tools="It uses the tools of Muster's own server without asking, and has no other server.",
    # It leaves several megabytes in its temporary folder at every start.
    fresh=(".cache/opencode/", "tmp/"),
    locked=_CONFIGURATION,
    # It ends when it cannot write this file where there is none.
    placed={f"{folder}.gitignore": b"*\n" for folder in _CONFIGURATION},
    hints={NO_LOGIN: "opencode has no valid login. Give its account a credential, or run: muster login opencode"},
)

"""Claude Code, behind `claude-agent-acp`."""

from __future__ import annotations

import json
import os

from fleet.runtimes.declaration import NO_LOGIN, NODE, OLD_NODE, PLACEHOLDER, Runtime, RuntimeNeeds, RuntimeRequest
from fleet.tools import SERVER

#: Tokens at which a conversation is compacted when no one says otherwise, and beyond which the larger window is needed.
_CONTEXT = 200_000
#: Its tools that read files and do nothing else.
_READING = ("Read", "Grep", "Glob")
#: It takes no fewer (Claude Code 2.1).
_LEAST = 100_000
#: Characters of a key that it keeps.
_KEY_END = 20


def _answer(asked: RuntimeRequest) -> RuntimeNeeds:
    context = asked.context or _CONTEXT
    # Tokens of a subscription and API keys go by different names (Claude Code documentation, "Authentication").
    name = "CLAUDE_CODE_OAUTH_TOKEN" if (asked.key or "").startswith("sk-ant-oat") else "ANTHROPIC_API_KEY"
    environment = {
        name: asked.key,
        "ANTHROPIC_BASE_URL": asked.base_url,
        "ANTHROPIC_MODEL": asked.model,
        "CLAUDE_CONFIG_DIR": str(asked.home / ".claude"),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        # Otherwise a `cd` holds for later commands of a turn, and approval rules could not know where these run (2.1).
        "CLAUDE_BASH_MAINTAIN_PROJECT_WORKING_DIR": "1",
        # By itself it asks for a window of a million tokens, each of which is paid again with every request.
        "CLAUDE_CODE_DISABLE_1M_CONTEXT": "1" if context <= _CONTEXT else None,
        "CLAUDE_CODE_AUTO_COMPACT_WINDOW": str(max(context, _LEAST)),
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
            # What Muster's own tools may do, Muster itself decides.
            "permissions": {"disableBypassPermissionsMode": "disable", "allow": [f"mcp__{SERVER}"]},
        },
    }
    reading = {**options, "tools": list(_READING)}
    # The same as flags, as the adapter itself gives them. Muster's own tools are missing: their server is the client's.
    terminal = (
        *("--cli", "--resume", "{session}", "--setting-sources=", "--strict-mcp-config"),
        *("--permission-mode", "default", "--managed-settings", json.dumps(options["managedSettings"])),
    )
    return RuntimeNeeds(
        environment=environment,
        terminal=terminal,
        noted={".claude/.claude.json": _first_answers(asked.key)},
        session_meta={"claudeCode": {"options": options}},
        aside_meta={"claudeCode": {"options": reading}},
    )


def _first_answers(key: str | None) -> dict[str, object]:
    """Return what its terminal program would ask at its first start, before it shows the conversation. Whether the
    folder is trusted stays a person's to say.

    Args:
        key: of its account. The program asks whether to use it, and keeps its end as the answer (Claude Code 2.1). A
            true key stays out of the home, so then it asks.
    """
    answers: dict[str, object] = {"hasCompletedOnboarding": True}
    if key is not None and key.endswith(PLACEHOLDER):
        answers["customApiKeyResponses"] = {"approved": [key[-_KEY_END:]], "rejected": []}
    return answers


RUNTIME = Runtime(
    name="claude",
    title="Claude Code",
    program="claude-agent-acp",
    install=f"npm install -g @agentclientprotocol/claude-agent-acp. {NODE}",
    node=(20,),
    adapter=True,
    child_names=("claude",),
    providers=("anthropic",),
    answer=_answer,
    session_mode="default",
    unruled_tools="It uses the tools of Muster's own server without asking, and has no other server.",
    terminal=True,
    login=("--cli", "auth", "login", "--claudeai"),
    login_file=".claude/.credentials.json",
    hints={
        r"(?i)root/sudo privileges": "Claude Code does not work as root: run Muster as an ordinary user.",
        NO_LOGIN: "Claude Code has no valid login. Give its account a credential, or run: muster login claude",
        **OLD_NODE,
    },
)

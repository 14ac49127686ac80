"""Approval rules of muster.yaml.

approvals:
  preset: standard
  rules:
    allow:
      - {prefix: git log}
      - {kind: edit, paths: [docs/**]}
    deny:
      - {command: make release}
  agents:
    coder0:
      preset: careful
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from bot.config.types import Block, Duration, Folder
from fleet.approval_rules.rules import EFFECTS, ApprovalRule, Effect, Kind
from fleet.approval_rules.validation import RuleError, validate

PresetName = Literal["careful", "standard", "sandboxed"]
#: The preset of agents for which muster.yaml names none: it asks everything.
DEFAULT_PRESET: Final[PresetName] = "careful"
#: Where a rule of muster.yaml is from.
ORIGIN: Final = "muster.yaml"

Glob = Annotated[str, Field(min_length=1, max_length=500)]


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class RuleBlock(Block):
    """One rule: what it is about. What is given must all match."""

    kind: Kind | None = Field(
        default=None,
        description="Default: execute with command or prefix, mcp with tool, fetch with host.",
    )
    command: Annotated[str, Field(min_length=1, max_length=4000)] | None = Field(
        default=None, description="A command, which must be exactly this one."
    )
    prefix: Annotated[str, Field(min_length=1, max_length=4000)] | None = Field(
        default=None,
        description=(
            "The first words of commands, such as git log. Programs that run other programs, such as python, npm or "
            "env, take no prefix."
        ),
    )
    paths: Annotated[
        tuple[Glob, ...],
        BeforeValidator(_listed),
        Field(max_length=50),
        WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
    ] = Field(default=(), description="For read and edit: patterns of files in the workspace, such as docs/**.")
    tool: Annotated[str, Field(min_length=1, max_length=300)] | None = Field(
        default=None, description="A tool of an MCP server, as SERVER/TOOL or SERVER/*."
    )

    host: Annotated[str, Field(min_length=1, max_length=300)] | None = Field(
        default=None, description="For fetch: a host, or *.DOMAIN for the hosts below a domain."
    )

    sandboxed: bool = Field(
        default=False,
        description="Only for agents in a sandbox. Builds and tests, such as make, take a prefix only with this.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.command is not None and self.prefix is not None:
            raise ValueError("found command and prefix; expected one of them.")
        if self.sort is None:
            raise ValueError(
                "found no kind, command, prefix, tool or host; expected one of them, like prefix: git log or "
                "kind: read."
            )
        return self

    @property
    def sort(self) -> Kind | None:
        """The kind of requests that it is about, or None if it does not say."""
        if self.kind is not None:
            return self.kind
        if self.command is not None or self.prefix is not None:
            return "execute"
        if self.tool is not None:
            return "mcp"
        return "fetch" if self.host is not None else None

    def rule(self, effect: Effect, scope: str) -> ApprovalRule:
        """Return the rule with this effect. Its id stays the same as long as the rule does."""
        kind: Kind = self.sort or "any"
        written = {"effect": effect, "scope": scope, **self.model_dump(mode="json", exclude_none=True), "kind": kind}
        digest = hashlib.blake2s(json.dumps(written, sort_keys=True).encode()).hexdigest()
        return ApprovalRule(
            id=f"y{digest[:6]}",
            effect=effect,
            kind=kind,
            scope=scope,
            command=self.command if self.prefix is None else self.prefix,
            match="exact" if self.prefix is None else "prefix",
            paths=self.paths,
            tool=self.tool,
            host=self.host,
            sandbox_only=self.sandboxed,
            origin=ORIGIN,
        )


class RuleLists(Block):
    """Rules by their effect. Of the rules that match a request, deny wins over ask, and ask over allow."""

    allow: tuple[RuleBlock, ...] = Field(
        default=(), max_length=500, description="Requests that are allowed, once each time."
    )
    ask: tuple[RuleBlock, ...] = Field(default=(), max_length=500, description="Requests that an operator is asked.")
    deny: tuple[RuleBlock, ...] = Field(default=(), max_length=500, description="Requests that are denied.")

    @model_validator(mode="after")
    def _fit(self) -> Self:
        for effect in EFFECTS:
            for number, block in enumerate(self.of(effect), 1):
                try:
                    # An allow may say less than an ask or a deny.
                    validate(block.rule(effect, "fleet"))
                except RuleError as error:
                    raise ValueError(f"rule {number} of {effect}: {error}") from None
        return self

    def of(self, effect: Effect) -> tuple[RuleBlock, ...]:
        """Return the rules of one effect."""
        return {"allow": self.allow, "ask": self.ask, "deny": self.deny}[effect]

    def rules(self, scope: str) -> Iterator[ApprovalRule]:
        """Yield the rules, for this scope."""
        for effect in EFFECTS:
            for block in self.of(effect):
                yield block.rule(effect, scope)


class ScopeApprovals(Block):
    """The preset and the rules of a role, an agent or a workspace."""

    preset: PresetName | None = Field(
        default=None,
        description=(
            "careful: everything is asked. standard: reading, edits in the workspace and harmless commands are "
            "allowed. sandboxed: everything in a sandbox is allowed that does not leave it. Default: that of the "
            "wider scope, at last careful."
        ),
    )
    rules: RuleLists = RuleLists()


class Approvals(ScopeApprovals):
    """The handling of agents' permission requests."""

    timeout: Duration = Field(default=900.0, description="How long a permission request waits before it is denied.")
    roles: dict[str, ScopeApprovals] = Field(default={}, description="By role. They come on top of the fleet's.")
    agents: dict[str, ScopeApprovals] = Field(default={}, description="By agent.")
    workspaces: dict[Folder, ScopeApprovals] = Field(
        default={}, description="By the folder that agents work in, or a folder above it."
    )

    def scopes(self, projects: Mapping[str, PresetName] | None = None) -> Mapping[str, ScopeApprovals]:
        """Return every scope with its preset and rules, the widest first.

        Args:
            projects: the presets of the projects that name one.
        """
        return {
            "fleet": self,
            **{f"role:{name}": block for name, block in self.roles.items()},
            **{f"project:{name}": ScopeApprovals(preset=preset) for name, preset in (projects or {}).items()},
            **{f"workspace:{folder}": self.workspaces[folder] for folder in sorted(self.workspaces, key=len)},
            **{f"agent:{name}": block for name, block in self.agents.items()},
        }

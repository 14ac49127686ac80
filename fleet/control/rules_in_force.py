"""The rules by which one agent host answers its runtime's requests now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import structlog

from fleet.approval_rules.judge import judge
from fleet.approval_rules.requests import RequestFacts, RuleVerdict
from fleet.approval_rules.rules import EFFECTS, KINDS, ApprovalRule, CommandMatch

log = structlog.get_logger(__name__)

#: An agent has at most this many rules.
MOST_RULES: Final = 2000


class RulesInForce:
    """The rules of one agent. They can change while the agent works.

    Args:
        rules: the rules whose scopes hold for the agent.
        workspace: the folder that holds its work.
        sandboxed: whether it runs in a sandbox.
        clock: returns Unix time; it decides when a rule has ended.
    """

    def __init__(
        self, rules: Sequence[ApprovalRule], *, workspace: Path, sandboxed: bool, clock: Callable[[], float]
    ) -> None:
        self.rules = tuple(rules)
        self._workspace = workspace
        self._sandboxed = sandboxed
        self._clock = clock

    def replace(self, rules: Sequence[ApprovalRule]) -> None:
        """Judge by these rules from now on."""
        self.rules = tuple(rules)

    def judge(self, facts: RequestFacts) -> RuleVerdict:
        """Return the verdict of the rules. A request that they cannot judge is asked."""
        try:
            return judge(facts, self.rules, workspace=self._workspace, sandboxed=self._sandboxed, now=self._clock())
        except Exception:
            log.exception("approval_rules.not_judged")
            return RuleVerdict(effect="ask", rule=None, reason="The rules could not judge this request.")


def digest_of(rules: Sequence[ApprovalRule]) -> str:
    """Return a word that is the same for the same rules alone."""
    text = json.dumps([rule.to_json() for rule in rules], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def rules_from_json(source: Iterable[Mapping[str, Any]]) -> tuple[ApprovalRule, ...]:
    """Return the rules that an agent host was told.

    Raises:
        ValueError: one of them is no rule that this version knows.
    """
    rules = []
    for raw in source:
        try:
            rule = ApprovalRule.from_json(raw)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not an approval rule: {error}") from None
        if rule.effect not in EFFECTS or rule.kind not in KINDS or rule.match not in get_args(CommandMatch):
            raise ValueError(f"not an approval rule: {rule.effect!r}, {rule.kind!r}, {rule.match!r}")
        rules.append(rule)
    if len(rules) > MOST_RULES:
        raise ValueError(f"{len(rules)} approval rules; an agent has at most {MOST_RULES}")
    return tuple(rules)

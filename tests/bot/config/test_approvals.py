"""Approval rules in muster.yaml: what they mean, and what is said of a mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bot.approvals.agent_rules import Isolation, combined, preset_of
from bot.approvals.rule_scopes import RuledAgent
from bot.config import loader
from bot.config.approvals import Approvals
from bot.config.paths import Paths
from bot.text.errors import ConfigError
from fleet.approval_rules.judge import judge
from fleet.approval_rules.requests import RequestFacts
from fleet.approval_rules.rules import ApprovalRule

BOXED = Isolation(sandboxed=True, open_network=False)
CODER = RuledAgent(name="coder0", role="coder", workspace=Path("/src/shop/api"))
TEXT = """\
approvals:
  timeout: 5m
  preset: standard
  rules:
    allow: [{command: make release}]
    deny: [{tool: github/*}, {kind: edit, paths: .github/**}]
  roles: {coder: {preset: sandboxed}}
  workspaces:
    /src: {rules: {ask: [{prefix: git push}]}}
    /elsewhere: {rules: {deny: [{kind: any}]}}
  agents:
    coder0: {preset: careful, rules: {allow: [{host: docs.python.org}]}}
"""


def read(tmp_path: Path, text: str) -> Approvals:
    tmp_path.chmod(0o700)
    paths = Paths(config=tmp_path, state=tmp_path / "state", sockets=tmp_path / "run")
    paths.muster_yaml.write_text(text)
    return loader.load(paths).approvals


def test_without_a_word_everything_is_asked(tmp_path: Path) -> None:
    settings = read(tmp_path, "")
    assert preset_of(settings.scopes(), CODER) == "careful"
    assert combined(settings.scopes(), (), CODER, BOXED) == ()


def test_every_scope_that_includes_the_agent_has_its_rules(tmp_path: Path) -> None:
    settings = read(tmp_path, TEXT)
    assert settings.timeout == 300
    assert preset_of(settings.scopes(), CODER) == "careful", "the narrowest scope's"
    rules = combined(settings.scopes(), (), CODER, BOXED)
    assert {(rule.effect, rule.kind, rule.scope) for rule in rules} == {
        ("allow", "execute", "fleet"),
        ("deny", "mcp", "fleet"),
        ("deny", "edit", "fleet"),
        ("ask", "execute", "workspace:/src"),
        ("allow", "fetch", "agent:coder0"),
    }
    other = RuledAgent(name="coder1", role="coder", workspace=Path("/home/x"))
    assert preset_of(settings.scopes(), other) == "sandboxed"
    assert any(rule.kind == "any" and rule.effect == "allow" for rule in combined(settings.scopes(), (), other, BOXED))
    reviewer = RuledAgent(name="r", role="code-review", workspace=Path("/srcs"))
    assert preset_of(settings.scopes(), reviewer) == "standard"
    assert not [rule for rule in combined(settings.scopes(), (), reviewer, BOXED) if rule.scope.startswith("workspace")]


def test_a_narrower_scope_lifts_no_deny(tmp_path: Path) -> None:
    text = "approvals: {rules: {deny: [{command: make release}]}, agents: {coder0: {preset: sandboxed}}}\n"
    added = ApprovalRule(id="r1", effect="allow", kind="execute", command="make release", scope="agent:coder0")
    rules = combined(read(tmp_path, text).scopes(), (added,), CODER, BOXED)
    facts = RequestFacts(kind="execute", command="make release")
    assert judge(facts, rules, workspace=tmp_path, sandboxed=True, now=0).effect == "deny"


def test_the_id_of_a_rule_stays_as_long_as_the_rule_does(tmp_path: Path) -> None:
    one = "approvals: {rules: {allow: [{command: ls}, {command: make release}]}}\n"
    other = "approvals: {rules: {allow: [{command: make release}]}}\n"
    ids = [[rule.id for rule in combined(read(tmp_path, text).scopes(), (), CODER, BOXED)] for text in (one, other)]
    assert ids[1] == ids[0][1:]


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("preset: cautious", "approvals.preset"),
        ("rules: {alow: []}", "approvals.rules.alow"),
        ("rules: {allow: [{}]}", "found no kind, command, prefix, tool or host"),
        ("rules: {allow: [{command: a, prefix: b}]}", "found command and prefix"),
        ("rules: {allow: [{prefix: python}]}", "rule 1 of allow: No rule can allow every command that begins with"),
        ("rules: {allow: [{command: 'make; id'}]}", "is not one simple command"),
        ("rules: {allow: [{kind: any}]}", "without an end"),
        ("rules: {deny: [{kind: read, paths: [../x]}]}", "rule 1 of deny: The path '../x' cannot be judged"),
        ("roles: {codr: {preset: careful}}", "approvals.roles.codr"),
        ("agents: {Coder: {preset: careful}}", "not a name for an agent"),
        ("workspaces: {src: {preset: careful}}", "absolute path"),
    ],
)
def test_a_mistake_names_the_line_and_what_to_write(tmp_path: Path, block: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, f"approvals:\n  {block}\n")
    assert said in str(refused.value)
    assert "muster.yaml:2:" in str(refused.value)


def test_a_projects_preset_holds_for_its_topics_alone(tmp_path: Path) -> None:
    settings = read(tmp_path, "approvals: {preset: standard, agents: {web-9: {preset: standard}}}")
    scopes = settings.scopes({"web": "careful"})
    topic = replace(CODER, name="web-1", sandbox="project-web")
    assert preset_of(scopes, topic) == "careful"
    assert combined(scopes, (), topic, BOXED) == ()
    assert preset_of(scopes, replace(topic, name="web-9")) == "standard", "an agent's own is narrower"
    assert preset_of(scopes, CODER) == "standard"

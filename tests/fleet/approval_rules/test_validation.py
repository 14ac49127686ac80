"""Which rules are refused, and with which code."""

from __future__ import annotations

import pytest

from fleet.approval_rules.presets import PRESETS, rules_of
from fleet.approval_rules.rules import ApprovalRule
from fleet.approval_rules.validation import RuleError, validate


def rule(effect: str, kind: str, **fields: object) -> ApprovalRule:
    return ApprovalRule.from_json({"id": "r", "effect": effect, "kind": kind, **fields})


def refusal(given: ApprovalRule) -> tuple[str, str]:
    with pytest.raises(RuleError) as caught:
        validate(given)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        *("python", "python3 -c", "node", "sh", "bash -c", "sudo", "env", "xargs", "timeout 5", "nice", "nohup"),
        *("npm", "npm test", "npm install", "pip install", "make", "make test", "cargo build", "pytest", "npx"),
        *("curl", "wget", "ssh", "vim", "gawk", "tar", "tee", "rm", "cp", "docker run", "/bin/ls", "./ls"),
        *("git", "git push", "git -c a=b log", "git -C x log", "git config", "git log --output=x", "git commit"),
        *("find . -delete", "find . -exec", "sed -i", "sort -o", "rg --pre", "ls /x --bad"),
    ],
)
def test_a_prefix_that_arguments_could_widen_is_refused(command: str) -> None:
    code, message = refusal(rule("allow", "execute", command=command, match="prefix"))
    assert code == "approval_rule.widens"
    assert "exact" in message
    validate(rule("allow", "execute", command=command))
    validate(rule("deny", "execute", command=command, match="prefix"))
    validate(rule("ask", "execute", command=command, match="prefix"))


@pytest.mark.parametrize(
    "command", ["ls", "git log", "git status --short", "rg", "grep -rn", "head -n", "sed -n", "find .", "git branch"]
)
def test_a_prefix_of_what_only_reads_is_taken(command: str) -> None:
    validate(rule("allow", "execute", command=command, match="prefix"))


def test_builds_are_a_prefix_in_a_sandbox_alone() -> None:
    validate(rule("allow", "execute", command="make test", match="prefix", sandbox_only=True))
    _, message = refusal(rule("allow", "execute", command="make test", match="prefix"))
    assert "sandbox" in message
    assert refusal(rule("allow", "execute", command="curl", match="prefix", sandbox_only=True))[0].endswith("widens")


@pytest.mark.parametrize(
    "command",
    ["", "ls | rm x", "ls; ls", "ls > x", "ls *", "ls $X", "$X", "X=1 ls", "ls 'a", "(ls)", "ls\u202e", "ls &"],
)
@pytest.mark.parametrize("effect", ["allow", "ask", "deny"])
def test_a_command_that_is_not_one_simple_command_is_refused(effect: str, command: str) -> None:
    assert refusal(rule(effect, "execute", command=command))[0] == "approval_rule.not_simple"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (rule("allow", "execute"), "too_wide"),
        (rule("allow", "any"), "too_wide"),
        (rule("allow", "edit"), "too_wide"),
        (rule("maybe", "read"), "unknown_word"),
        (rule("allow", "delete"), "unknown_word"),
        (rule("allow", "execute", command="ls", match="regex"), "unknown_word"),
        (rule("allow", "read", command="ls"), "wrong_kind"),
        (rule("deny", "any", command="ls"), "wrong_kind"),
        (rule("allow", "execute", command="ls", paths=("a",)), "wrong_kind"),
        (rule("allow", "fetch", tool="a/b"), "wrong_kind"),
        (rule("allow", "mcp", host="a.b"), "wrong_kind"),
        (rule("allow", "read", paths=("../x",)), "bad_path"),
        (rule("allow", "read", paths=("~/x",)), "bad_path"),
        (rule("allow", "read", paths=("",)), "bad_path"),
        (rule("allow", "mcp", tool="a"), "bad_tool"),
        (rule("allow", "mcp", tool="*/b"), "bad_tool"),
        (rule("allow", "mcp", tool="a/b*"), "bad_tool"),
        (rule("allow", "fetch", host="*"), "bad_host"),
        (rule("allow", "fetch", host="https://a.b"), "bad_host"),
        (rule("allow", "fetch", host="\u0430.b"), "bad_host"),
        (rule("allow", "read", scope="team:a"), "unknown_scope"),
        (rule("allow", "read", scope="role:"), "unknown_scope"),
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(given: ApprovalRule, code: str) -> None:
    found, message = refusal(given)
    assert found == f"approval_rule.{code}"
    assert len(message) < 400


def test_a_wide_rule_needs_an_end_or_a_sandbox() -> None:
    for kind in ("execute", "edit", "any"):
        validate(rule("allow", kind, until=1.0))
        validate(rule("allow", kind, sandbox_only=True))
        validate(rule("deny", kind))
    validate(rule("allow", "read"))
    validate(rule("allow", "fetch"))
    validate(rule("allow", "mcp", tool="docs/*"))


def test_every_rule_of_every_preset_is_valid_and_has_an_id_of_its_own() -> None:
    for name in PRESETS:
        for sandboxed in (False, True):
            rules = rules_of(name, sandboxed=sandboxed)
            for each in rules:
                validate(each)
                assert ApprovalRule.from_json(each.to_json()) == each
            assert len({each.id for each in rules}) == len(rules)


def test_presets_are_what_their_names_say() -> None:
    assert rules_of("careful", sandboxed=True) == ()
    standard = rules_of("standard", sandboxed=False)
    assert rules_of("sandboxed", sandboxed=False) == standard
    assert rules_of("sandboxed", sandboxed=True, open_network=True) == rules_of("standard", sandboxed=True)
    assert not any(each.sandbox_only for each in standard)
    assert {each.effect for each in standard} == {"allow"}
    with pytest.raises(KeyError):
        rules_of("loose", sandboxed=True)

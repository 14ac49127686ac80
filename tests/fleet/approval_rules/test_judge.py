"""What each request is answered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.approval_rules.command_table import build_of
from fleet.approval_rules.judge import judge
from fleet.approval_rules.presets import rules_of
from fleet.approval_rules.requests import RequestFacts, RuleVerdict
from fleet.approval_rules.rules import ApprovalRule
from tests.fleet.approval_rules.corpus import ALLOWED, ALLOWED_IN_A_SANDBOX, BYPASSES, RULES

CASES = [(trick, answer, command) for trick, cases in BYPASSES.items() for answer, command in cases]


def verdict(
    facts: RequestFacts, *rules: ApprovalRule, workspace: Path, sandboxed: bool = False, now: float = 0
) -> RuleVerdict:
    return judge(facts, rules, workspace=workspace, sandboxed=sandboxed, now=now)


def execute(command: str, *rules: ApprovalRule, workspace: Path, sandboxed: bool = False) -> RuleVerdict:
    facts = RequestFacts(kind="execute", command=command)
    return verdict(facts, *rules, workspace=workspace, sandboxed=sandboxed)


def here(command: str, workspace: Path) -> str:
    return command.replace("{workspace}", str(workspace))


def rule(effect: str, kind: str, **fields: object) -> ApprovalRule:
    return ApprovalRule.from_json({"id": f"{effect}-{kind}", "effect": effect, "kind": kind, **fields})


# --- the corpus --------------------------------------------------------------------------------------------------


def test_every_bypass_is_asked_or_denied(workspace: Path) -> None:
    wrong = [
        (trick, command[:80], answer, found.effect, found.reason)
        for trick, answer, command in CASES
        if (found := execute(here(command, workspace), *RULES, workspace=workspace)).effect != answer
    ]
    assert wrong == []
    assert len(CASES) > 1200


def test_no_bypass_is_allowed_without_the_rules_that_deny(workspace: Path) -> None:
    allowing = [each for each in RULES if each.effect == "allow"]
    assert [
        command
        for _, _, command in CASES
        if execute(here(command, workspace), *allowing, workspace=workspace).effect != "ask"
    ] == []


def test_no_bypass_but_a_build_is_allowed_by_the_standard_preset_in_a_sandbox(workspace: Path) -> None:
    rules = (*rules_of("standard", sandboxed=True), *(each for each in RULES if each.effect == "deny"))
    allowed = [
        command
        for _, _, command in CASES
        if execute(here(command, workspace), *rules, workspace=workspace, sandboxed=True).effect == "allow"
    ]
    assert [command for command in allowed if "git status" not in command and build_of(command.split()) is None] == []


def test_everyday_commands_are_allowed(workspace: Path) -> None:
    sandboxed = rules_of("standard", sandboxed=True)
    found = [(text, execute(here(text, workspace), *RULES, workspace=workspace)) for text in ALLOWED]
    found += [
        (text, execute(here(text, workspace), *sandboxed, workspace=workspace, sandboxed=True))
        for text in ALLOWED_IN_A_SANDBOX
    ]
    assert [(text, each.reason) for text, each in found if each.effect != "allow"] == []


def test_the_verdict_names_the_rules_and_fits_on_a_line(workspace: Path) -> None:
    allowed = execute("git log -1 | head -3", *RULES, workspace=workspace)
    assert allowed.rule is not None
    assert (allowed.rule.id, allowed.reason) == (
        "standard:git-log",
        "Allowed by standard:git-log and standard:head.",
    )
    for _, _, command in CASES:
        reason = execute(command, *RULES, workspace=workspace).reason
        assert reason.isprintable()
        assert len(reason) < 400


# --- how rules are weighed ---------------------------------------------------------------------------------------


def test_any_deny_wins_then_ask_then_allow_whatever_the_scope(workspace: Path) -> None:
    allow = rule("allow", "execute", command="git log", match="prefix", scope="agent:coder0")
    ask = rule("ask", "execute", command="git log", match="prefix", scope="role:coder")
    deny = rule("deny", "execute", command="git log", match="prefix", scope="fleet")
    for rules in ((allow, ask, deny), (deny, ask, allow)):
        assert execute("git log", *rules, workspace=workspace).effect == "deny"
    assert execute("git log", allow, ask, workspace=workspace).effect == "ask"
    assert execute("git log", allow, workspace=workspace).effect == "allow"


def test_a_rule_ends_at_its_time(workspace: Path) -> None:
    allow = rule("allow", "execute", until=100.0)
    facts = RequestFacts(kind="execute", command="touch x")
    assert verdict(facts, allow, workspace=workspace, now=99.9).effect == "allow"
    assert verdict(facts, allow, workspace=workspace, now=100).effect == "ask"


def test_a_rule_for_sandboxes_holds_in_a_sandbox_alone(workspace: Path) -> None:
    allow = rule("allow", "execute", command="make", match="prefix", sandbox_only=True)
    assert execute("make test -j4", allow, workspace=workspace, sandboxed=True).effect == "allow"
    assert execute("make test -j4", allow, workspace=workspace).effect == "ask"
    # What it would read as its input is not part of the command.
    assert execute("ls | make test", allow, workspace=workspace, sandboxed=True).effect == "ask"


def test_each_part_needs_a_rule(workspace: Path) -> None:
    status = rule("allow", "execute", command="git status", match="prefix")
    log = rule("allow", "execute", command="git log", match="prefix")
    assert execute("git status && git log", status, workspace=workspace).effect == "ask"
    assert execute("git status && git log", status, log, workspace=workspace).effect == "allow"


def test_an_exact_rule_is_about_the_words_not_their_spelling(workspace: Path) -> None:
    allow = rule("allow", "execute", command="sh build.sh 'a b'")
    assert execute('sh  build.sh "a b"', allow, workspace=workspace).effect == "allow"
    for other in ("sh build.sh a b", "sh build.sh", "sh build.sh 'a b' c", "X=1 sh build.sh 'a b'"):
        assert execute(other, allow, workspace=workspace).effect == "ask"


def test_an_exact_rule_gives_no_authority_to_what_is_piped_in(workspace: Path) -> None:
    allow = (rule("allow", "execute", command="sh"), rule("allow", "execute", command="echo", match="prefix"))
    assert execute("sh", *allow, workspace=workspace).effect == "allow"
    assert execute("echo 'touch x' | sh", *allow, workspace=workspace).effect == "ask"


def test_a_program_that_the_workspace_has_a_file_of_is_asked(workspace: Path) -> None:
    """Some runtimes shorten `bash ls` to `ls`."""
    assert execute("ls", *RULES, workspace=workspace).effect == "allow"
    (workspace / "ls").write_text("touch x")
    assert execute("ls", *RULES, workspace=workspace).effect == "ask"


def test_paths_start_where_the_runtime_says(workspace: Path) -> None:
    def answer(command: str, cwd: str, *rules: ApprovalRule) -> str:
        facts = RequestFacts(kind="execute", command=command, cwd=cwd)
        return verdict(facts, *RULES, *rules, workspace=workspace).effect

    source = str(workspace / "src")
    assert answer("cat src/a.py", str(workspace)) == "allow"
    assert answer("cat a.py", source) == "allow"
    assert answer("cat ../README.md", source) == "allow"
    assert answer("echo x > new/b.py", source) == "allow"
    for command in ("cat ../../x", "cat linked", "echo x > ../.git/config", "echo x > ../../x"):
        assert answer(command, source) == "ask", command
    for cwd in ("/etc", str(workspace / "out"), str(workspace / ".."), "src", ""):
        assert answer("cat a.py", cwd) == "ask", cwd
        # A Makefile from elsewhere is not what was allowed.
        assert answer("make test", cwd) == "ask", cwd
    assert answer("make test", source) == "allow"
    assert answer("cat a.py", source, rule("deny", "read", paths=("src/**",))) == "ask"
    unknown = RequestFacts(kind="execute", command="git status", cwd_unknown=True)
    assert verdict(unknown, *RULES, workspace=workspace).effect == "ask"
    assert verdict(unknown, *RULES, workspace=workspace, sandboxed=True).effect == "allow"


def test_a_change_of_the_folder_is_followed_within_the_workspace(workspace: Path) -> None:
    def answer(command: str, *rules: ApprovalRule) -> str:
        return execute(command, *RULES, *rules, workspace=workspace).effect

    assert answer("cd src && cat a.py") == "allow"
    assert answer("cd src/new && mkdir -p x && echo x > x/y") == "allow"
    # The change can fail, and then the path starts at the workspace.
    assert answer("cd missing; cat ../x") == "ask"
    assert answer("cd src && cat ../README.md") == "ask"
    assert answer("cd src && cat linked") == "ask"
    (workspace / "src/new/.env").write_text("")
    assert answer("cd src/new && cat .env") == "allow"
    assert answer("cd src/new && cat .env", rule("deny", "read", paths=("src/new/.env",))) == "ask"
    assert answer("cd src/new && echo x > .env", rule("deny", "edit", paths=("src/new/.env",))) == "ask"
    # An exact rule means the workspace's own.
    assert answer("cd src && make test") == "ask"
    assert answer("cd /tmp && make test", rule("allow", "execute", command="cd /tmp")) == "ask"


def test_git_is_not_run_in_a_folder_that_may_be_another_repository(workspace: Path) -> None:
    assert execute("cd src && git status", *RULES, workspace=workspace).effect == "allow"
    (workspace / "src/HEAD").write_text("ref: refs/heads/main\n")
    assert execute("cd src && git status", *RULES, workspace=workspace).effect == "ask"
    assert execute("cd src/new && git status", *RULES, workspace=workspace).effect == "ask"
    assert execute("git status", *RULES, workspace=workspace).effect == "allow"
    facts = RequestFacts(kind="execute", command="git status", cwd=str(workspace / "src"))
    assert verdict(facts, *RULES, workspace=workspace).effect == "ask"


def test_making_a_folder_needs_leave_to_edit(workspace: Path) -> None:
    mkdir = rule("allow", "execute", command="mkdir", match="prefix")
    edits = rule("allow", "edit", paths=("src/**",))
    assert execute("mkdir -p src/x", mkdir, workspace=workspace).effect == "ask"
    assert execute("mkdir -p src/x", mkdir, edits, workspace=workspace).effect == "allow"
    assert execute("mkdir -p docs", mkdir, edits, workspace=workspace).effect == "ask"


def test_files_that_settings_of_git_name_are_closed(workspace: Path) -> None:
    rules = rules_of("standard", sandboxed=False)
    (workspace / "tools").mkdir()
    for name in ("shared.gitconfig", "tools/clean.py"):
        (workspace / name).write_text("")
    (workspace / ".git/config").write_text(
        '[include]\n\tpath = ../shared.gitconfig\n[filter "x"]\n\tclean = python3 "tools/clean.py" %f\n'
        '[remote "origin"]\n\turl = .\n'
    )
    assert edit("shared.gitconfig", *rules, workspace=workspace).effect == "ask"
    assert edit("tools/clean.py", *rules, workspace=workspace).effect == "ask"
    assert edit("tools/other.py", *rules, workspace=workspace).effect == "allow"


def test_a_rule_that_denies_a_command_is_asked_where_it_may_hide(workspace: Path) -> None:
    everything = rule("allow", "any", sandbox_only=True)
    deny = rule("deny", "execute", command="rm", match="prefix")

    def answer(command: str) -> str:
        return execute(command, everything, deny, workspace=workspace, sandboxed=True).effect

    assert answer("touch x") == "allow"
    assert answer("for f in a b; do touch $f; done") == "allow"
    assert answer("sh -c 'rm x'") == "deny"
    assert answer("$X y") == "ask"
    assert answer("echo 'rm x' | sh") == "ask"
    assert answer("ls '") == "ask"


def test_options_are_compared_in_any_form(workspace: Path) -> None:
    deny = rule("deny", "execute", command="rm -rf", match="prefix")

    def answer(command: str) -> str:
        return execute(command, deny, workspace=workspace).effect

    for command in ("rm -rf x", "rm -fr x", "rm -r -f x", "rm x -rf", "rm --recursive --force x", "rm -Rf x"):
        assert answer(command) == "deny", command
    assert answer("rm -f x") == "ask"
    force = rule("deny", "execute", command="git push --force", match="prefix")
    for command in ("git push --force", "git push origin -f", "git -C x push --force origin", "git push --forc x"):
        assert execute(command, force, workspace=workspace).effect == "deny", command


# --- files -------------------------------------------------------------------------------------------------------


def edit(path: str, *rules: ApprovalRule, workspace: Path) -> RuleVerdict:
    return verdict(RequestFacts(kind="edit", paths=(path,)), *rules, workspace=workspace)


@pytest.mark.parametrize("sandboxed", [False, True])
def test_edits_within_the_workspace_are_allowed_but_for_what_starts_programs(workspace: Path, sandboxed: bool) -> None:
    rules = rules_of("standard", sandboxed=sandboxed)
    for path in ("src/a.py", str(workspace / "new" / "b.py"), "AGENTS.md", "CLAUDE.md", ".github/workflows/ci.yml"):
        assert edit(path, *rules, workspace=workspace).effect == "allow", path
    for path in (
        ".git/config",
        ".git/hooks/pre-commit",
        ".GIT/config",
        ".git./config",
        "sub/.git/config",
        ".git",
        "src/../.git/config",
        ".husky/pre-commit",
        ".claude/settings.json",
        ".mcp.json",
        "opencode.json",
        ".codex/config.toml",
        "sub/.pi/settings.json",
        ".envrc",
        "sub/HEAD",
        "/etc/passwd",
        "../x",
        "out/x",
        "~/x",
        "",
        "a\x00b",
        "a\u202eb",
        "x" * 5000,
    ):
        assert edit(path, *rules, workspace=workspace).effect == "ask", path


def test_a_rule_for_everything_does_not_cover_git_either(workspace: Path) -> None:
    everything = rules_of("sandboxed", sandboxed=True)
    facts = RequestFacts(kind="edit", paths=(".git/config",))
    assert verdict(facts, *everything, workspace=workspace, sandboxed=True).effect == "ask"
    assert execute("echo x > .git/config", *everything, workspace=workspace, sandboxed=True).effect == "ask"
    assert execute("echo x > /tmp/x", *everything, workspace=workspace, sandboxed=True).effect == "allow"


def test_links_are_followed(workspace: Path) -> None:
    rules = rules_of("standard", sandboxed=False)
    (workspace / "hooks").symlink_to(".git/hooks")
    (workspace / "loop").symlink_to("loop")
    (workspace / "inside").symlink_to("src")
    assert edit("hooks/pre-commit", *rules, workspace=workspace).effect == "ask"
    assert edit("inside/b.py", *rules, workspace=workspace).effect == "allow"
    os.link(workspace / ".git/config", workspace / "innocent")
    assert edit("innocent", *rules, workspace=workspace).effect == "ask"
    assert verdict(RequestFacts(kind="read", paths=("out/passwd",)), *rules, workspace=workspace).effect == "ask"
    verdict(RequestFacts(kind="read", paths=("loop/x",)), *rules, workspace=workspace)


def test_git_folders_elsewhere_are_closed_too(workspace: Path) -> None:
    rules = rules_of("standard", sandboxed=False)
    (workspace / ".git/config").write_text('[core]\n\thooksPath = "scripts/hooks"\n')
    assert edit("scripts/hooks/pre-commit", *rules, workspace=workspace).effect == "ask"
    assert edit("scripts/other", *rules, workspace=workspace).effect == "allow"
    other = workspace / "other"
    (other / "store").mkdir(parents=True)
    (other / ".git").write_text("gitdir: store\n")
    facts = RequestFacts(kind="edit", paths=("store/config",))
    assert verdict(facts, *rules, workspace=other).effect == "ask"
    common = workspace / "common"
    common.mkdir()
    (common / "config").write_text("[core]\n\thooksPath = checks\n")
    (other / "store/commondir").write_text("../../common\n")
    facts = RequestFacts(kind="edit", paths=("checks/pre-commit",))
    assert verdict(facts, *rules, workspace=other).effect == "ask"
    (other / ".git").unlink()
    os.mkfifo(other / ".git")
    assert verdict(RequestFacts(kind="edit", paths=("a",)), *rules, workspace=other).effect == "allow"


def test_globs_are_relative_to_the_workspace(workspace: Path) -> None:
    allow = rule("allow", "edit", paths=("src/**", "*.md", "docs/*.txt"))
    for path, answer in {
        "src/a.py": "allow",
        "src/x/y/z.py": "allow",
        "README.md": "allow",
        "docs/a.txt": "allow",
        "docs/x/a.txt": "ask",
        "x/README.md": "ask",
        "srcs/a.py": "ask",
        "src/../x": "ask",
    }.items():
        assert edit(path, allow, workspace=workspace).effect == answer, path


def test_every_path_of_a_request_must_be_covered(workspace: Path) -> None:
    allow = rule("allow", "edit", paths=("src/**",))
    both = RequestFacts(kind="edit", paths=("src/a.py", "README.md"))
    assert verdict(both, allow, workspace=workspace).effect == "ask"
    assert verdict(RequestFacts(kind="edit"), allow, workspace=workspace).effect == "ask"


def test_a_rule_that_denies_reading_a_file_holds_for_commands_too(workspace: Path) -> None:
    (workspace / "src/.env").write_text("KEY=1")
    (workspace / "link").symlink_to("src/.env")
    deny = rule("deny", "read", paths=(".env",))
    rules = (*rules_of("standard", sandboxed=False), deny)

    def answer(command: str) -> str:
        return execute(command, *rules, workspace=workspace).effect

    for path in ("src/.env", "src/.ENV", "link", str(workspace / "src/.env")):
        assert verdict(RequestFacts(kind="read", paths=(path,)), *rules, workspace=workspace).effect == "deny", path
    assert answer("cat < src/.env") == "deny"
    for command in ("cat src/.env", "cat link", "grep -r KEY .", "grep KEY -r", "rg KEY", "git show HEAD:src/.env"):
        assert answer(command) == "ask", command
    assert answer("cat src/a.py") == "allow"
    assert answer("git status") == "allow"
    assert answer("ls src") == "allow"


def test_a_rule_that_denies_edits_holds_for_redirects(workspace: Path) -> None:
    rules = (*rules_of("standard", sandboxed=False), rule("deny", "edit", paths=("src/**",)))
    assert execute("echo x > src/a.py", *rules, workspace=workspace).effect == "deny"
    assert execute("(ls; ls) > src/a.py", *rules, workspace=workspace).effect == "deny"
    assert execute("echo x > b.py", *rules, workspace=workspace).effect == "allow"
    assert execute("cat src/a.py", *rules, workspace=workspace).effect == "allow"
    everything = (rule("allow", "any", sandbox_only=True), rule("deny", "edit", paths=("src/**",)))
    assert execute("cp x src/a.py", *everything, workspace=workspace, sandboxed=True).effect == "ask"


# --- tools and addresses -----------------------------------------------------------------------------------------


def test_tools_are_allowed_by_server_and_name(workspace: Path) -> None:
    one, all_ = rule("allow", "mcp", tool="docs/search"), rule("allow", "mcp", tool="docs/*")

    def answer(tool: str | None, *rules: ApprovalRule) -> str:
        return verdict(RequestFacts(kind="mcp", tool=tool), *rules, workspace=workspace).effect

    assert [answer("docs/search", one), answer("docs/write", one), answer("docs/write", all_)] == [
        "allow",
        "ask",
        "allow",
    ]
    for tool in (None, "", "docs", "docs/", "DOCS/search", "docs2/search", "docs/../x/search"):
        assert answer(tool, one) == "ask", tool
    deny = rule("deny", "mcp", tool="docs/*")
    assert answer("DOCS/search", deny, one) == "deny"
    assert answer(None, deny, rule("allow", "mcp", until=1.0)) == "ask"


def test_addresses_are_allowed_by_host(workspace: Path) -> None:
    def answer(url: str | None, *rules: ApprovalRule) -> str:
        return verdict(RequestFacts(kind="fetch", url=url), *rules, workspace=workspace).effect

    host = rule("allow", "fetch", host="docs.example.org")
    below = rule("allow", "fetch", host="*.example.org")
    assert answer("https://docs.example.org/x?y", host) == "allow"
    assert answer("https://DOCS.example.org:443/", host) == "allow"
    assert answer("https://a.b.example.org/", below) == "allow"
    for url in (
        None,
        "",
        "docs.example.org",
        "https://example.org/",
        "https://docs.example.org.evil.org/",
        "https://docs.example.org@evil.org/",
        "https://evil.org\\@docs.example.org/",
        "https://evil.org#docs.example.org",
        "https://docs.example.org:8080/",
        "file://docs.example.org/etc/passwd",
        "https://docs.example.org:x/",
        "https://docs\u3002example.org/",
        "https://[::1/",
    ):
        assert answer(url, host) == "ask", url
    assert answer("https://example.org/", below) == "ask"
    assert answer("https://example.org:99/", rule("deny", "fetch", host="*.example.org"), host) == "deny"
    assert answer("https://any.org/", rule("allow", "fetch")) == "allow"


def test_what_the_runtime_does_not_name_is_asked(workspace: Path) -> None:
    everything = rule("allow", "any", sandbox_only=True)
    unknown = RequestFacts(kind=None)
    assert verdict(unknown, everything, workspace=workspace, sandboxed=True).effect == "ask"
    assert verdict(unknown, rule("deny", "any"), workspace=workspace).effect == "deny"
    no_command = RequestFacts(kind="execute")
    assert verdict(no_command, everything, workspace=workspace, sandboxed=True).effect == "ask"

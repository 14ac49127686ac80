"""Commands that try to get past the rules, and commands that must be allowed: `corpus.yaml`.

They are judged by the preset `standard` outside of a sandbox, with these rules beside it: `rm` and `git push` are
denied with any arguments, and a few builds are allowed exactly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from fleet.approval_rules.presets import rules_of
from fleet.approval_rules.rules import ApprovalRule, CommandMatch, Effect

FILE: Final = Path(__file__).with_suffix(".yaml")
#: Commands that the rules below allow exactly.
EXACT: Final = ("make test", "npm run lint", "npm test", "cargo build", "pytest")
#: Commands that the rules below deny, with any arguments.
DENIED: Final = ("rm", "git push")


def _rule(effect: Effect, command: str, match: CommandMatch) -> ApprovalRule:
    id_ = f"{effect}-{command.replace(' ', '-')}"
    return ApprovalRule(id=id_, effect=effect, kind="execute", command=command, match=match)


#: The operator's rules beside the preset.
OPERATORS: Final = (
    *(_rule("deny", command, "prefix") for command in DENIED),
    *(_rule("allow", command, "exact") for command in EXACT),
)
RULES: Final = (*rules_of("standard", sandboxed=False), *OPERATORS)


def _text(case: Any) -> str:
    return case if isinstance(case, str) else case["start"] + case["repeat"] * case["times"]


_LOADED: Final = yaml.safe_load(FILE.read_text(encoding="utf-8"))

#: By trick: the answer, and what is tried.
BYPASSES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    trick: tuple((answer, _text(case)) for answer, cases in by_answer.items() for case in cases)
    for trick, by_answer in _LOADED["bypasses"].items()
}

#: What must not ask. `{workspace}` is its folder.
ALLOWED: Final = tuple(map(str, _LOADED["everyday"]))

#: What must not ask in a sandbox.
ALLOWED_IN_A_SANDBOX: Final = tuple(map(str, _LOADED["everyday in a sandbox"]))


def make_workspace(root: Path) -> Path:
    """Return a clone with a few files, and links out of it."""
    for folder in (".git/hooks", "src/new"):
        (root / folder).mkdir(parents=True)
    for file in ("src/a.py", "README.md", "package.json", "a file", ".git/config"):
        (root / file).write_text("")
    (root / "out").symlink_to("/etc")
    (root / "src/linked").symlink_to("/etc/passwd")
    return root

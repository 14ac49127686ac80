"""The uses of git that only read the repository.

Each option is listed. Those that are missing run a program or write a file (``--ext-diff``, ``--output``,
``--open-files-in-pager``, ``--show-signature``), or act in another repository (``-C``, ``--git-dir``, ``--no-index``).
git's own settings can name programs as well; they are in ``.git``, which no rule opens for edits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from fleet.approval_rules.command_options import KnownOptions, Refused, Usage, options

_DIFF: Final = (
    "-p -u --patch -s --no-patch -U: --unified= --stat= --numstat --shortstat --dirstat --summary --name-only "
    "--name-status -M --find-renames= --diff-filter= -w --ignore-all-space -b --ignore-space-change "
    "--ignore-blank-lines --ignore-space-at-eol --word-diff= --color-words --color= --no-color --no-ext-diff "
    "--no-textconv --no-renames -z --full-index --abbrev= --raw --minimal --patience --histogram --function-context "
    "-W --text -a -R --relative --no-prefix --ignore-cr-at-eol --ignore-submodules= --no-relative "
)
_LOG: Final = (
    "--oneline --graph --all --decorate= --no-decorate -n: --max-count: --skip: --since: --after: --until: --before: "
    "--author: --committer: --grep: -i --format: --pretty= --date: --merges --no-merges --first-parent --follow "
    "--reverse --abbrev-commit --topo-order --date-order --branches= --tags= --remotes= --no-walk -S: -G: -L: "
    "--pickaxe-all --left-right --cherry-pick --no-mailmap --all-match --full-history --source -E -F "
    "--author-date-order --simplify-by-decoration --ancestry-path= --boundary --cherry --cherry-mark --not "
    "--invert-grep --no-notes --parents --children "
)
#: By subcommand.
_COMMANDS: Final[Mapping[str, KnownOptions]] = {
    "status": options(
        "-s --short -b --branch --porcelain= -u --untracked-files= -uno -uall -unormal --ignored= -z --long "
        "--show-stash --ahead-behind --no-ahead-behind --no-renames",
        contents="none",
    ),
    "log": options(_LOG + _DIFF, contents="tree", number=True),
    "show": options(_LOG + _DIFF, contents="tree", number=True),
    "diff": options(
        _DIFF + "--cached --staged --merge-base --check --quiet --exit-code --compact-summary", contents="tree"
    ),
    "shortlog": options("-s -n -e -sn -ns -sne --all --since: --until: --no-merges", contents="none"),
    "rev-parse": options(
        "--show-toplevel --abbrev-ref= --short= --verify -q --quiet --git-dir --is-inside-work-tree --show-prefix "
        "--show-cdup --symbolic-full-name --is-bare-repository --git-common-dir --absolute-git-dir "
        "--is-shallow-repository --show-superproject-working-tree",
        contents="none",
    ),
    "rev-list": options(_LOG + "--count --objects", contents="none", number=True),
    "ls-files": options(
        "-m --modified -o --others -c --cached -d --deleted -s --stage -z --exclude-standard --error-unmatch -t "
        "--full-name -i --ignored -u --unmerged",
        contents="none",
    ),
    "ls-tree": options("-r -t -d -l --long -z --name-only --name-status --full-name --full-tree", contents="none"),
    "blame": options("-L: -w -M -s -l -e -p --porcelain --line-porcelain --date: --show-email", contents="tree"),
    "describe": options("--tags --always --all --long --dirty= --abbrev= --match: --exact-match", contents="none"),
    "cherry": options("-v --verbose --abbrev=", contents="none"),
    "diff-tree": options(_DIFF + "-r -t --root --no-commit-id -c --cc", contents="tree"),
    "merge-base": options("--all --is-ancestor --octopus --fork-point", contents="none"),
    "name-rev": options("--name-only --tags", contents="none"),
    "cat-file": options("-p -t -s -e", contents="tree"),
    "show-ref": options("--heads --tags --verify --hash= -s -d -q --quiet --head", contents="none"),
    "for-each-ref": options("--format: --sort: --count: --points-at: --merged= --contains=", contents="none"),
    "check-ignore": options("-v --verbose -q --quiet -n --non-matching", contents="none"),
    "count-objects": options("-v -H --verbose --human-readable", "none", contents="none"),
    "grep": options(
        "-n --line-number -i --ignore-case -l --files-with-matches --name-only -L -w -c --count -h -H -E -F -P -G -v "
        "-e: -A: -B: -C: -o --only-matching -I --cached --untracked -p --show-function -W --heading --break "
        "--color= --no-color --max-depth: --all-match --and --or -m:",
        "pattern",
        contents="tree",
        patterns="-e",
    ),
    "version": options("--build-options", "none", contents="none"),
}
_BRANCH: Final = options(
    "--list -l -a --all -r --remotes -v -vv --verbose --show-current --contains: --no-contains: --merged: --no-merged: "
    "--sort: --format: --points-at: --color= --no-color --column= -i --ignore-case",
    "text",
    contents="none",
)
_TAG: Final = options(
    "--list -l -n --contains: --merged: --no-merged: --sort: --format: --points-at: --column=", "text", contents="none"
)
_NO_OPTIONS: Final = options("", "none", contents="none")
_WORKTREES: Final = options("--porcelain -v --verbose -z", "none", contents="none")
_REFLOG: Final = re.compile(r"-n ?\d{1,6}|-\d{1,6}|show|", re.ASCII)
#: What makes git start the program that checks signatures: placeholders, with or without the signs that may stand in
#: them, and fields of references, also as sort keys.
_SIGNATURE: Final = re.compile(r"%[-+ ]?G|%\(\*?signature")
_SORTED_BY_SIGNATURE: Final = re.compile(r"(--sort=)?[-*]*signature")
SUBCOMMANDS: Final = frozenset((*_COMMANDS, "branch", "tag", "remote", "stash", "worktree", "reflog"))


def check(arguments: Sequence[str]) -> Usage:
    """Return what git reads with these arguments.

    Raises:
        Refused: it may do more than read this repository.
    """
    arguments = without_pager(arguments)
    if not arguments or arguments[0] not in SUBCOMMANDS:
        raise Refused(f"{' '.join(('git', *arguments[:1]))} is not known to only read")
    subcommand, rest = arguments[0], arguments[1:]
    sorts = subcommand in ("branch", "tag", "for-each-ref")
    if any(_SIGNATURE.search(word) or (sorts and _SORTED_BY_SIGNATURE.match(word)) for word in rest):
        raise Refused("a format that checks signatures starts a program")
    match subcommand:
        case "branch":
            return _listing(_BRANCH, rest)
        case "tag":
            return _listing(_TAG, rest)
        case "remote":
            if rest not in ([], ["-v"], ["--verbose"]) and not (
                len(rest) == 2 and rest[0] == "get-url" and not rest[1].startswith("-")
            ):
                raise Refused("git remote only reads without arguments, with -v, and with get-url")
            return Usage()
        case "stash" | "worktree":
            if rest[:1] != ["list"]:
                raise Refused(f"git {subcommand} only reads with list")
            return (_WORKTREES if subcommand == "worktree" else _NO_OPTIONS).check(rest[1:])
        case "reflog":
            if not _REFLOG.fullmatch(" ".join(rest)):
                raise Refused("git reflog only reads without arguments, with show, and with a number")
            return Usage()
    return _COMMANDS[subcommand].check(rest)


def without_pager(arguments: Sequence[str]) -> list[str]:
    """Return git's arguments without the options that only turn its pager off."""
    rest = list(arguments)
    while rest and rest[0] in ("--no-pager", "-P", "--no-optional-locks"):
        del rest[0]
    return rest


def _listing(allowed: KnownOptions, rest: list[str]) -> Usage:
    usage = allowed.check(rest)
    # Any other operand than a pattern of `--list` makes a branch or a tag.
    # In old versions `git branch -l NAME` makes one.
    if usage.operands and rest[0] not in (("--list", "-l") if allowed is _TAG else ("--list",)):
        raise Refused("an operand without --list before it may make a branch or a tag")
    return usage

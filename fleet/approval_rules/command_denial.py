"""Find a command that a rule denies, or asks about, wherever it hides.

Such a rule is compared broadly: by the program's name wherever it is installed, behind wrappers such as ``sudo`` and
``sh -c``, with its options in any order. It is better to ask once too often than to miss one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from fleet.approval_rules import command_table
from fleet.approval_rules.command_options import Refused
from fleet.approval_rules.matching import RuleMatch
from fleet.approval_rules.rules import ApprovalRule
from fleet.approval_rules.shell_command import ShellCommand, SimpleCommand, Word, parse, words_of

_DEPTH: Final = 4
#: What has more parts than this cannot be known.
_CANDIDATES: Final = 1000
_SHELLS: Final = frozenset(str.split("sh bash zsh dash ksh mksh ash fish csh tcsh rbash busybox toybox"))
#: Programs and builtins that run their arguments.
_WRAPPERS: Final = _SHELLS | frozenset(
    str.split(
        "env sudo doas su runuser nice ionice nohup timeout xargs parallel time command builtin exec eval source . "
        "trap stdbuf setsid chroot unshare nsenter bwrap firejail watch flock script ssh strace ltrace gdb taskset "
        "numactl chrt coproc alias find fd git entr systemd-run at batch unbuffer rlwrap setarch prlimit noglob "
        "nocorrect pkexec valgrind perf hyperfine docker podman kubectl npx bunx uvx tar rsync"
    )
)
#: Options of git that take the next word as their value.
_GIT_VALUES: Final = frozenset(str.split("-C -c --git-dir --work-tree --namespace --exec-path --config-env"))
_ONE_WORD: Final = re.compile(r"[\w./-]*", re.ASCII)
_LETTERS: Final = {"--force": "f", "--recursive": "r"}


def match(rule: ApprovalRule, command: ShellCommand) -> RuleMatch:
    """Return whether a rule that denies or asks is about any part of the command."""
    if rule.command is None:
        return RuleMatch.YES
    wanted = words_of(rule.command)
    if wanted is None:
        return RuleMatch.MAYBE
    found = RuleMatch.MAYBE if command.problem is not None else RuleMatch.NO
    for number, candidate in enumerate(_candidates(command.parts, 0)):
        if number >= _CANDIDATES:
            return max(found, RuleMatch.MAYBE)
        found = max(found, min(_compare(wanted, rule.match == "exact", candidate.words), candidate.most))
        if found is RuleMatch.YES:
            break
    return found


@dataclass(frozen=True, slots=True)
class _Candidate:
    words: Sequence[Word]
    most: RuleMatch


def _candidates(parts: Sequence[SimpleCommand], depth: int) -> Iterator[_Candidate]:
    """Yield everything that may be run, and how sure that is."""
    for part in parts:
        words = part.words
        if not words:
            continue
        yield _Candidate(words, RuleMatch.YES)
        if _is_harmless(words):
            continue
        name = _name(words[0])
        most = RuleMatch.YES if name in _WRAPPERS or not words[0].literal else RuleMatch.MAYBE
        for place in range(1, len(words)):
            # An argument that is not known is a program only behind what runs its arguments.
            if not words[place].text.startswith("-") and (most is RuleMatch.YES or words[place].literal):
                yield _Candidate(words[place:], most)
        if depth < _DEPTH and any(_name(word) in _WRAPPERS for word in words):
            for text in _texts(words):
                yield from _candidates(parse(text).parts, depth + 1)


def _texts(words: Sequence[Word]) -> Iterator[str]:
    """Yield the arguments that a shell may read as commands."""
    for word in words[1:]:
        if not _ONE_WORD.fullmatch(word.text):
            yield word.text
        if "=" in word.text:
            yield word.text.partition("=")[2]
    if _name(words[0]) == "eval":
        yield " ".join(word.text for word in words[1:])


def _is_harmless(words: Sequence[Word]) -> bool:
    if not all(word.literal for word in words):
        return False
    try:
        command_table.check([word.text for word in words])
    except Refused:
        return False
    return True


def _name(word: Word) -> str:
    return word.text.rstrip("/").rpartition("/")[2].casefold()


def _compare(wanted: Sequence[str], exact: bool, words: Sequence[Word]) -> RuleMatch:
    program = words[0]
    if _name(program) != _name(Word(wanted[0], True)):
        if not program.literal:
            return RuleMatch.MAYBE
        if _name(program) in _SHELLS and not any(not word.text.startswith("-") for word in words[1:]):
            # A shell that reads its commands from its input.
            return RuleMatch.MAYBE
        return RuleMatch.NO
    rest = [word.text for word in words[1:]]
    unknown = any(not word.literal for word in words)
    if _name(program) == "git":
        rest, aliased = _from_subcommand(rest)
        unknown = unknown or aliased
        asked = wanted[1:]
        operands = [word for word in rest if not word.startswith("-")]
        if asked and not asked[0].startswith("-") and operands[:1] != [asked[0]]:
            return RuleMatch.MAYBE if unknown else RuleMatch.NO
    covered = _covers(wanted[1:], rest)
    if exact and covered:
        return RuleMatch.YES if _covers(rest, wanted[1:]) else RuleMatch.MAYBE
    if covered:
        return RuleMatch.YES
    return RuleMatch.MAYBE if unknown else RuleMatch.NO


def _from_subcommand(arguments: list[str]) -> tuple[list[str], bool]:
    """Return git's arguments from the subcommand on, and whether settings are given that can rename subcommands."""
    rest = list(arguments)
    aliased = False
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        aliased = aliased or option.startswith(("-c", "--config-env"))
        if option in _GIT_VALUES and rest:
            del rest[0]
    return rest, aliased


def _covers(wanted: Sequence[str], words: Sequence[str]) -> bool:
    """Return whether all that is wanted is among the words: operands in their order, options in any."""
    remaining = iter(word for word in words if not word.startswith("-"))
    if not all(any(word == operand for word in remaining) for operand in wanted if not operand.startswith("-")):
        return False
    letters, long_options = _options(words)
    for option in wanted:
        if option == "--" or not option.startswith("-"):
            continue
        asked_letters, asked_long = _options([option])
        if not asked_letters <= letters:
            return False
        for name in asked_long:
            if name not in _LETTERS and not any(
                given == name or (len(given) > 3 and name.startswith(given)) for given in long_options
            ):
                return False
    return True


def _options(words: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the letters of short options, and the names of long ones."""
    letters: set[str] = set()
    names: set[str] = set()
    for word in words:
        if word.startswith("--"):
            name = word.partition("=")[0]
            names.add(name)
            letters |= {letter for full, letter in _LETTERS.items() if len(name) > 3 and full.startswith(name)}
        elif word.startswith("-"):
            letters |= {letter.lower() if letter == "R" else letter for letter in word[1:]}
    return letters, names - {"--"}

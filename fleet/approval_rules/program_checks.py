"""Programs whose arguments need more than a list of options, because some of them are a language of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from fleet.approval_rules.command_options import Refused, Usage, options

_DATE: Final = options("-u --utc -I -R --iso-8601= --rfc-3339: --rfc-email", "text", most=1, contents="none")
_DIFF: Final = options(
    "-u -r -q -N -w -b -B -i -y -a -U: -c -C: -s -p -E -Z --brief --recursive --new-file --unified= --side-by-side "
    "--color= --ignore-all-space --ignore-case --no-dereference --strip-trailing-cr --width: -W: -x: --exclude:",
    contents="tree",
)
_MKDIR: Final = options("-p -v --parents --verbose", contents="none")
_SED: Final = options("-n --quiet --silent -E -r -s", "pattern")
#: Text of patterns, without what a delimiter, an escape or a bracket could make of it.
_SAFE: Final = r"[\w .,:;^$*+?()=<>\"'@%&!~-]*"
_ADDRESS: Final = rf"(?:\d{{1,9}}|\$|/{_SAFE}/)"
_PRINT: Final = rf"(?:{_ADDRESS}(?:,(?:{_ADDRESS}|\+\d{{1,9}}))?)?[p=]"
_SUBSTITUTE: Final = "|".join(rf"s{each}{_SAFE}{each}{_SAFE}{each}[gp\d]{{0,3}}" for each in ("/", r"\|", "#"))
SED_SCRIPT: Final = re.compile(rf"{_PRINT}(;{_PRINT})*|{_SUBSTITUTE}", re.ASCII)
_AWK: Final = options("-F:", "pattern")
_AWK_NUMBER: Final = r"(?:NR|FNR|NF|length|\$\d{1,4}) ?(?:==|!=|>=|<=|<|>|%) ?\d{1,9}"
_AWK_VALUE: Final = r"(?:\$\d{1,4}|\$NF|NR|FNR|NF|FILENAME|\"[\w .,:;=()/#*+-]*\")"
_AWK_PRINT: Final = rf"\{{ ?print(?: {_AWK_VALUE}(?:(?: ?, ?| ?){_AWK_VALUE})*)? ?;? ?\}}"
_AWK_SUM: Final = r"\{ ?(?P<sum>[a-z]{1,9}) ?\+= ?\$\d{1,4} ?;? ?\} ?END ?\{ ?print (?P=sum) ?;? ?\}"
AWK_PROGRAM: Final = re.compile(
    rf"(?:{_AWK_NUMBER}|/{_SAFE}/)(?: ?&& ?{_AWK_NUMBER})*(?: ?{_AWK_PRINT})?|{_AWK_PRINT}|{_AWK_SUM}", re.ASCII
)
#: In a format, bash and zsh evaluate numbers as arithmetic, which can run commands.
_PRINTF_FORMAT: Final = re.compile(r"(?:[^%]|%%|%-?\d{0,3}s)*", re.DOTALL)
_NAME: Final = re.compile(r"\w[\w.+-]*", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,6}", re.ASCII)
_SECONDS: Final = re.compile(r"\d{1,3}(?:\.\d{1,3})?s?", re.ASCII)
_SEQ: Final = options("-w -s:", "text", contents="none")
_FILE_TESTS: Final = frozenset(str.split("-e -f -d -s -r -w -x -L -h"))
_JQ: Final = options(
    "-r --raw-output -c --compact-output -s --slurp -n --null-input -e --exit-status -S --sort-keys -M -C -a -j",
    "pattern",
)
#: jq loads files by these, and reads the environment.
_JQ_OUTSIDE: Final = re.compile(r"import|include|env|ENV|input_filename|modulemeta|debug|input_line|search|\$__")
#: Tests and actions of find, by how many arguments follow.
_FIND: Final[Mapping[str, int]] = {
    **dict.fromkeys(str.split("-name -iname -path -ipath -wholename -regex -iregex -lname -regextype -printf"), 1),
    **dict.fromkeys(str.split("-type -xtype -maxdepth -mindepth -size -mtime -mmin -atime -amin -ctime -cmin"), 1),
    **dict.fromkeys(str.split("-perm -user -group -links"), 1),
    **dict.fromkeys(str.split("-not ! -o -or -a -and ( ) -print -print0 -prune -empty -readable -writable -ls"), 0),
    **dict.fromkeys(str.split("-executable -depth -xdev -mount -true -false -nouser -nogroup -daystart"), 0),
}


def _find(arguments: Sequence[str]) -> Usage:
    rest = list(arguments)
    if rest[:1] == ["-P"]:
        del rest[0]
    paths = []
    while rest and rest[0] not in ("!", "(", ")") and not rest[0].startswith("-"):
        paths.append(rest.pop(0))
    while rest:
        test = rest.pop(0)
        if test == "-newer":
            paths += rest[:1]
            del rest[:1]
            continue
        if test not in _FIND or len(rest) < _FIND[test]:
            raise Refused(f"{test!r} of find is not known to be harmless")
        del rest[: _FIND[test]]
    return Usage(tuple(path for path in paths if path != "-"), tuple(paths))


def _sed(arguments: Sequence[str]) -> Usage:
    # Other scripts write files and run commands.
    usage = _SED.check(arguments)
    if not usage.operands or not SED_SCRIPT.fullmatch(usage.operands[0]):
        raise Refused("sed is known to be harmless only with scripts that print or replace, such as 1,20p")
    return usage


def _awk(arguments: Sequence[str]) -> Usage:
    usage = _AWK.check(arguments)
    if not usage.operands or not AWK_PROGRAM.fullmatch(usage.operands[0]):
        raise Refused("awk is known to be harmless only with programs that print fields, such as {print $1}")
    return usage


def _diff(arguments: Sequence[str]) -> Usage:
    usage = _DIFF.check(arguments)
    return usage if "--no-dereference" in arguments else replace(usage, follows_links=True)


def _mkdir(arguments: Sequence[str]) -> Usage:
    usage = _MKDIR.check(arguments)
    return replace(usage, paths=(), makes=usage.operands)


def _printf(arguments: Sequence[str]) -> Usage:
    # `-v` evaluates a subscript, which can run a command.
    if not arguments or arguments[0].startswith("-") or not _PRINTF_FORMAT.fullmatch(arguments[0]):
        raise Refused("printf is known to be harmless only with %s in its format, and without options")
    return Usage(operands=tuple(arguments))


def _test(arguments: Sequence[str]) -> Usage:
    # Others evaluate their arguments as arithmetic.
    if len(arguments) == 2 and arguments[0] in _FILE_TESTS:
        return Usage(paths=(arguments[1],))
    if len(arguments) == 2 and arguments[0] in ("-n", "-z"):
        return Usage()
    raise Refused("test is known to be harmless only about one file, such as test -f FILE")


def _command(arguments: Sequence[str]) -> Usage:
    if len(arguments) < 2 or arguments[0] != "-v":
        raise Refused("command runs a program; only command -v NAME is known to be harmless")
    return _type(arguments[1:])


def _type(arguments: Sequence[str]) -> Usage:
    if not all(_NAME.fullmatch(argument) for argument in arguments):
        raise Refused("only names of programs are known to be harmless here")
    return Usage()


def _sleep(arguments: Sequence[str]) -> Usage:
    if len(arguments) != 1 or not _SECONDS.fullmatch(arguments[0]):
        raise Refused("sleep may be for less than 1,000 seconds")
    return Usage()


def _seq(arguments: Sequence[str]) -> Usage:
    usage = _SEQ.check(arguments)
    if not all(_NUMBER.fullmatch(operand) for operand in usage.operands):
        raise Refused("seq may count to 999,999, in whole numbers")
    return usage


def _jq(arguments: Sequence[str]) -> Usage:
    usage = _JQ.check(arguments)
    if usage.operands and _JQ_OUTSIDE.search(usage.operands[0]):
        raise Refused("the jq program may read other files or the environment")
    return usage


def _date(arguments: Sequence[str]) -> Usage:
    usage = _DATE.check(arguments)
    if any(not operand.startswith("+") for operand in usage.operands):
        raise Refused("date with such an argument may set the clock")
    return usage


CHECKS: Final[Mapping[str, Callable[[Sequence[str]], Usage]]] = {
    "awk": _awk,
    "command": _command,
    "date": _date,
    "diff": _diff,
    "find": _find,
    "jq": _jq,
    "mkdir": _mkdir,
    "printf": _printf,
    "sed": _sed,
    "seq": _seq,
    "sleep": _sleep,
    "test": _test,
    "type": _type,
}

"""Programs that rules may allow with any arguments, as far as these are known to be harmless.

The list is closed. Which arguments make a program run another one, or write a file, is known for these programs; of all
others it is assumed that they do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fleet.approval_rules import git_commands
from fleet.approval_rules.command_options import KnownOptions, Refused, Usage, options

_GREP: Final = (
    "-n --line-number -i --ignore-case -l --files-with-matches -L --files-without-match -c --count -v --invert-match "
    "-w --word-regexp -x --line-regexp -o --only-matching -q --quiet -s --no-messages -h --no-filename -H "
    "--with-filename -E -F -P -G -a -I -z -b -U --extended-regexp --fixed-strings --perl-regexp -e: --regexp: -f@ "
    "--file@ -m: --max-count: -A: --after-context: -B: --before-context: -C: --context: --include: --exclude: "
    "--exclude-dir: --color= --colour= -r --recursive --line-buffered --null -T --text"
)
_RG: Final = (
    "-n --line-number -N --no-line-number -i --ignore-case -S --smart-case -s --case-sensitive -F --fixed-strings -w "
    "--word-regexp -x -v --invert-match -l --files-with-matches --files-without-match -c --count --count-matches -o "
    "--only-matching -q --quiet -H --with-filename -I --no-filename -U --multiline --multiline-dotall -P --pcre2 -g: "
    "--glob: --iglob: -t: --type: -T: --type-not: -e: --regexp: -f@ --file@ -m: --max-count: -A: --after-context: -B: "
    "--before-context: -C: --context: -M: --max-columns: -d: --max-depth: --hidden -. --no-ignore --no-ignore-vcs "
    "-u -uu -uuu --color: --no-heading --heading --files --sort: --stats --trim --json --vimgrep --column --type-list "
    "-a --text --no-messages --no-config -p --pretty -0 --null -r: --replace:"
)
_LISTING: Final = (
    "-1 -a -A -l -h -R -t -r -S -d -F -p -i -s -n -g -o -c -u -x -C -m -k -G -q -Q -U -v -X -Z -b --all --almost-all "
    "--human-readable --recursive --reverse --size --directory --classify= --color= --group-directories-first "
    "--sort: --time: --time-style: --full-time --format: --inode --ignore: -I: --hide: --si"
)
_CHECKSUM: Final = options("-b --binary -t --text --tag -z --zero")

#: By program: what it may be called with.
_READERS: Final[Mapping[str, KnownOptions]] = {
    "ls": options(_LISTING, contents="none"),
    "cat": options("-n -A -b -e -E -s -t -T -v -u --number --show-all --show-ends --show-tabs --squeeze-blank"),
    "head": options("-n: -c: -q -v -z --lines: --bytes: --quiet --verbose", number=True),
    "tail": options("-n: -c: -q -v -z --lines: --bytes: --quiet --verbose", number=True),
    "wc": options("-l -w -c -m -L --lines --words --bytes --chars --max-line-length"),
    "nl": options("-b: -n: -w: -s: -v: -i: --body-numbering: --number-format: --number-width:"),
    "stat": options("-c: --format: --printf: -t --terse -f --file-system", contents="none"),
    "file": options("-b --brief -i --mime --mime-type --mime-encoding -k -h --no-dereference"),
    "du": options(
        "-s -h -a -c -d: -k -m -b --summarize --human-readable --all --total --max-depth: -x", contents="none"
    ),
    "tree": options(
        "-L: -a -d -f -i -s -h -D -p -F -C -n -r -t -I: -P: --dirsfirst --noreport --prune --gitignore", contents="none"
    ),
    "basename": options("-a -s: -z", "text", contents="none"),
    "dirname": options("-z", "text", contents="none"),
    "realpath": options("-e -m -s -q -z --relative-to@ --relative-base@", contents="none"),
    "readlink": options("-f -e -m -n -q -v", contents="none"),
    "pwd": options("-L -P", "none", contents="none"),
    "echo": options("-n -e -E", "text", contents="none"),
    "true": options("", "text", contents="none"),
    "false": options("", "text", contents="none"),
    "which": options("-a", "text", contents="none"),
    "whoami": options("", "none", contents="none"),
    "id": options("-u -g -G -n -un -gn", "none", contents="none"),
    "uname": options("-a -s -n -r -v -m -p -i -o", "none", contents="none"),
    "nproc": options("--all", "none", contents="none"),
    "seq": options("-w -s: -f:", "text", contents="none"),
    "grep": options(_GREP, "pattern", patterns="-e --regexp -f --file", tree="-r --recursive"),
    "egrep": options(_GREP, "pattern", patterns="-e --regexp -f --file", tree="-r --recursive"),
    "fgrep": options(_GREP, "pattern", patterns="-e --regexp -f --file", tree="-r --recursive"),
    "rg": options(_RG, "pattern", patterns="-e --regexp -f --file --files --type-list", contents="tree"),
    "sort": options(
        "-n -r -u -k: -t: -h -V -f -b -d -g -M -s -z -c -C -i -R --numeric-sort --reverse --unique --key: "
        "--field-separator: --human-numeric-sort --version-sort --ignore-case --check --stable"
    ),
    # A second operand is a file that it writes.
    "uniq": options("-c -d -u -i -f: -s: -w: -z --count --repeated --unique --ignore-case", most=1),
    "hexdump": options("-C -n: -s: -v -x -c -d -o -b"),
    "cut": options("-d: -f: -c: -b: -s --delimiter: --fields: --characters: --complement --output-delimiter:"),
    "tr": options("-d -s -c -C -t --delete --squeeze-repeats --complement", "text", contents="none"),
    "rev": options(""),
    "tac": options("-s: -b"),
    "column": options("-t -s: -x --table --separator:"),
    "diff": options(
        "-u -r -q -N -w -b -B -i -y -a -U: -c -C: -s -p -E -Z --brief --recursive --new-file --unified= --side-by-side "
        "--color= --ignore-all-space --ignore-case --no-dereference --strip-trailing-cr --width: -W: -x: --exclude:",
        contents="tree",
    ),
    "cmp": options("-s -l -b -n: -i: --silent --quiet"),
    "comm": options("-1 -2 -3 -12 -13 -23 --total --check-order --nocheck-order"),
    "md5sum": _CHECKSUM,
    "sha1sum": _CHECKSUM,
    "sha256sum": _CHECKSUM,
    "sha512sum": _CHECKSUM,
}
_DATE: Final = options("-u --utc -I -R --iso-8601= --rfc-3339: --rfc-email", "text", most=1, contents="none")
_SED: Final = options("-n --quiet --silent -E -r -s", "pattern")
_SED_SCRIPT: Final = re.compile(r"(\d{1,9}|\$)(,(\d{1,9}|\$))?p(;(\d{1,9}|\$)(,(\d{1,9}|\$))?p)*", re.ASCII)
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
    # Of sed's scripts only those that print lines: others write files and run commands.
    usage = _SED.check(arguments)
    if not usage.operands or not _SED_SCRIPT.fullmatch(usage.operands[0]):
        raise Refused("sed is known to be harmless only with scripts that print lines, such as 1,20p")
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


_CHECKS: Final[Mapping[str, Callable[[Sequence[str]], Usage]]] = {
    **{name: allowed.check for name, allowed in _READERS.items()},
    "find": _find,
    "sed": _sed,
    "jq": _jq,
    "date": _date,
    "git": git_commands.check,
}
#: The programs, for messages and documentation.
PROGRAMS: Final = tuple(sorted(_CHECKS))


def check(words: Sequence[str]) -> Usage:
    """Return what a command reads.

    Raises:
        Refused: the program is not on the list, or an argument is not known to be harmless.
    """
    checker = _CHECKS.get(words[0]) if words else None
    if checker is None:
        raise Refused(f"{words[0] if words else 'nothing'} is not known to be harmless with any arguments")
    return checker(words[1:])


#: Builds and tests. They run what the agent wrote, so rules about them hold only in a sandbox; there no argument adds
#: to what the code that they run can do already.
BUILDS: Final[tuple[tuple[str, ...], ...]] = tuple(
    tuple(line.split())
    for line in (
        "make",
        "ninja",
        "ctest",
        "cmake --build",
        "pytest",
        "py.test",
        "tox",
        "nox",
        "ruff",
        "mypy",
        "pyright",
        "black --check",
        "python -m pytest",
        "python3 -m pytest",
        "python -m unittest",
        "python3 -m unittest",
        "python -m mypy",
        "python3 -m mypy",
        ".venv/bin/pytest",
        ".venv/bin/ruff",
        ".venv/bin/mypy",
        ".venv/bin/python -m pytest",
        ".venv/bin/python -m unittest",
        "npm test",
        "npm run",
        "yarn test",
        "yarn run",
        "yarn build",
        "pnpm test",
        "pnpm run",
        "pnpm build",
        "node --test",
        "tsc",
        "eslint",
        "jest",
        "vitest",
        "cargo build",
        "cargo test",
        "cargo check",
        "cargo clippy",
        "cargo fmt",
        "cargo doc",
        "go build",
        "go test",
        "go vet",
        "go fmt",
        "gofmt",
        "mvn test",
        "mvn compile",
        "mvn verify",
        "gradle test",
        "gradle build",
        "./gradlew test",
        "./gradlew build",
        "dotnet build",
        "dotnet test",
        "mix test",
        "bundle exec rspec",
        "rspec",
    )
)


def build_of(words: Sequence[str]) -> tuple[str, ...] | None:
    """Return the entry of `BUILDS` with which a command begins."""
    return next((build for build in BUILDS if tuple(words[: len(build)]) == build), None)

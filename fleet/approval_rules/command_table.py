"""Programs that rules may allow with any arguments, as far as these are known to be harmless.

The list is closed. Which arguments make a program run another one, or write a file, is known for these programs; of all
others it is assumed that they do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fleet.approval_rules import git_commands, program_checks
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
    "-a --text --no-messages --no-config -p --pretty -0 --null -r: --replace: --max-filesize: --no-ignore-parent "
    "--passthru -b --byte-offset --sortr: --glob-case-insensitive --no-binary --binary --max-columns-preview "
    "--no-context-separator"
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
    "xxd": options("-p -b -u -i -l: -s: -c: -g:", most=1),
    "od": options("-c -x -b -d -o -v -A: -t: -N: -j:"),
    "base64": options("-d -D -w: --decode --wrap:"),
    "paste": options("-d: -s"),
    "fold": options("-w: -s -b"),
    "fd": options(
        "-e: -t: -H -I -a -g -i -s -d: -E: -p -0 -1 -q --extension: --type: --hidden --no-ignore --absolute-path "
        "--glob --max-depth: --min-depth: --exclude: --full-path --ignore-case --case-sensitive --max-results: "
        "--color:",
        "pattern",
        contents="none",
    ),
    "df": options("-h -T -k -m -i -P -l --human-readable", contents="none"),
    "hostname": options("-s -f", "none", contents="none"),
    "hexdump": options("-C -n: -s: -v -x -c -d -o -b"),
    "cut": options("-d: -f: -c: -b: -s --delimiter: --fields: --characters: --complement --output-delimiter:"),
    "tr": options("-d -s -c -C -t --delete --squeeze-repeats --complement", "text", contents="none"),
    "rev": options(""),
    "tac": options("-s: -b"),
    "column": options("-t -s: -x --table --separator:"),
    "cmp": options("-s -l -b -n: -i: --silent --quiet"),
    "comm": options("-1 -2 -3 -12 -13 -23 --total --check-order --nocheck-order"),
    "shasum": options("-a: -b -t --binary --text"),
    "cksum": options(""),
    "b2sum": _CHECKSUM,
    "md5sum": _CHECKSUM,
    "sha1sum": _CHECKSUM,
    "sha256sum": _CHECKSUM,
    "sha512sum": _CHECKSUM,
}
_CHECKS: Final[Mapping[str, Callable[[Sequence[str]], Usage]]] = {
    **{name: allowed.check for name, allowed in _READERS.items()},
    **program_checks.CHECKS,
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


#: Builds and tests, and what hooks may be run by. They run what the agent wrote, so rules about them hold only in a
#: sandbox; there no argument adds to what the code that they run can do already.
BUILDS: Final[tuple[tuple[str, ...], ...]] = tuple(
    tuple(line.split())
    for line in (
        "make",
        "ninja",
        "ctest",
        "cmake --build",
        "cmake -S",
        "cmake -B",
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
        "python -m ruff",
        "python3 -m ruff",
        "python -m black",
        "python3 -m black",
        "python -m py_compile",
        "python3 -m py_compile",
        "python -m compileall",
        "python3 -m compileall",
        "black",
        "isort",
        "flake8",
        "pylint",
        "uv run pytest",
        "uv run ruff",
        "uv run mypy",
        "uv run pyright",
        "poetry run pytest",
        "poetry run ruff",
        "poetry run mypy",
        "python --version",
        "python3 --version",
        "pip list",
        "pip show",
        "pip freeze",
        "pip check",
        "coverage report",
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
        "yarn lint",
        "pnpm lint",
        "npm run-script",
        "npm ls",
        "npm list",
        "npm --version",
        "npm -v",
        "node --version",
        "node -v",
        "node --check",
        "bun test",
        "bun run",
        "deno test",
        "deno check",
        "deno lint",
        "npx tsc",
        "npx eslint",
        "npx prettier",
        "npx vitest",
        "npx jest",
        "node --test",
        "tsc",
        "eslint",
        "jest",
        "prettier",
        "vitest",
        "cargo build",
        "cargo test",
        "cargo check",
        "cargo clippy",
        "cargo fmt",
        "cargo doc",
        "cargo run",
        "cargo bench",
        "cargo nextest",
        "cargo tree",
        "cargo metadata",
        "cargo --version",
        "rustc --version",
        "go build",
        "go test",
        "go vet",
        "go fmt",
        "gofmt",
        "go run",
        "go list",
        "go env",
        "go version",
        "go mod graph",
        "golangci-lint run",
        "staticcheck",
        "mvn test",
        "mvn compile",
        "mvn verify",
        "gradle test",
        "gradle build",
        "./gradlew test",
        "./gradlew build",
        "./gradlew check",
        "./mvnw test",
        "./mvnw compile",
        "./mvnw verify",
        "dotnet build",
        "dotnet test",
        "mix test",
        "bundle exec rspec",
        "rspec",
        "bundle exec rake",
        "rake test",
        "rubocop",
        "bundle exec rubocop",
        "composer test",
        "phpunit",
        "vendor/bin/phpunit",
        "./vendor/bin/phpunit",
        "swift build",
        "swift test",
        "zig build",
        "zig test",
        "bazel build",
        "bazel test",
        "meson setup",
        "meson compile",
        "meson test",
        "just",
        "pre-commit run",
        "git add",
        "git commit",
    )
)


def build_of(words: Sequence[str]) -> tuple[str, ...] | None:
    """Return the entry of `BUILDS` with which a command begins."""
    return next((build for build in BUILDS if tuple(words[: len(build)]) == build), None)

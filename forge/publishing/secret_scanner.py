"""The program that looks for secrets in lines. It runs alone, in a sandbox, as what it reads is hostile.

It knows nothing of Muster and imports detect-secrets only. The first line of its input says how to look, and each
further line has the added lines of a file, as JSON. It writes a line for each secret, and at the end ``done``. It never
asks a provider whether a secret works: detect-secrets does so only with a setting that is not set here, and the
sandbox has no network.

Usage: secret_scanner.py MEMORY_BYTES SECONDS FOLDER...
"""

from __future__ import annotations

import hashlib
import json
import re
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass

#: Characters of a line that are looked at together; the next part repeats the end of the one before.
PART = 4096
OVERLAP = 512
#: Lines that are also looked at as one, for secrets that were divided.
JOINED = 3
#: Secrets that are told.
MOST_FOUND = 500
#: What stands between the parts of a string in programs: the end of one line and the beginning of the next.
_END = re.compile(r"[\s\\+.&|,\"'`()]{1,20}\Z")
_BEGIN = re.compile(r"\A[\s\\+.&|,\"'`()#/*>-]{1,200}")
#: Only such runs of characters can be a part of a secret that is known by its form.
_RUN = re.compile(r"[A-Za-z0-9+/=_.:-]{8}")
#: Hashes of packages look random, so files that consist of them are searched for known forms only.
_LOCKS = re.compile(r"(?:\A|/)(?:[\w.-]*\.lock|[\w.-]*lock\.(?:json|yaml)|go\.sum|npm-shrinkwrap\.json)\Z")
#: A shorter part of a form is the same for other secrets.
_SHORTEST = 12
_KEY = "Private Key"
#: Addresses of machines are no secrets.
_LEFT_OUT = ("IPPublicDetector",)


@dataclass(frozen=True)
class _Secret:
    kind: str
    value: str
    listed: tuple[str, ...]
    """What a baseline may have of it."""


class _Detectors:
    """The plugins of detect-secrets, divided into those that know a form and those that guess."""

    def __init__(self, forms: list[str]) -> None:
        # Found in the folders that the command line names.
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
        from detect_secrets.filters import heuristic
        from detect_secrets.plugins.base import BasePlugin, RegexBasedDetector

        self._base = RegexBasedDetector
        kinds: list[type[BasePlugin]] = list(get_mapping_from_secret_type_to_class().values())
        plugins = [kind() for kind in kinds if kind.__name__ not in _LEFT_OUT]
        self._exact = [each for each in plugins if isinstance(each, RegexBasedDetector)]
        self._guessing = [each for each in plugins if not isinstance(each, RegexBasedDetector)]
        self._forms = [re.compile(form) for form in forms]
        self._heuristic = heuristic

    def exact(self, text: str, further: str = "") -> Iterator[_Secret]:
        """Yield each secret that is known by its form. No comment and no name hides it.

        The value is all that the form covers: a part of it, such as ``ghp``, would be the same for other secrets.
        """
        for plugin in self._exact:
            if type(plugin).analyze_string is not self._base.analyze_string:
                for value in plugin.analyze_string(text):
                    yield _Secret(plugin.secret_type, value, (value,))
                continue
            for form in plugin.denylist:
                for match in form.finditer(text):
                    if plugin.secret_type == _KEY:
                        # The form covers the header alone, which is the same for all keys.
                        yield _Secret(_KEY, text[match.start() :] + further, ())
                    else:
                        groups = (group for group in match.groups() if group and len(group) >= _SHORTEST)
                        yield _Secret(plugin.secret_type, match[0], (match[0], *groups))
        for form in self._forms:
            for match in form.finditer(text):
                yield _Secret("Key or token", match[0], (match[0],))

    def guessed(self, path: str, text: str) -> Iterator[_Secret]:
        """Yield what only looks like a secret: random, or named like one."""
        rules = self._heuristic
        if rules.is_indirect_reference(text):
            return
        for plugin in self._guessing:
            for found in plugin.analyze_line(filename=path, line=text, line_number=1):
                value = found.secret_value or ""
                if not (
                    rules.is_sequential_string(value)
                    or rules.is_potential_uuid(value)
                    or rules.is_likely_id_string(value, text, plugin)
                    or rules.is_templated_secret(value)
                    or rules.is_prefixed_with_dollar_sign(value)
                    or rules.is_not_alphanumeric_string(value)
                ):
                    yield _Secret(found.type, value, (value,))


def _parts(text: str) -> Iterator[str]:
    for at in range(0, max(1, len(text)), PART - OVERLAP):
        yield text[at : at + PART]
        if at + PART >= len(text):
            return


def _joined(lines: list[tuple[int, str]], at: int) -> str | None:
    """Return some lines as the one string that they may be parts of, or None if there is none."""
    number, text = lines[at]
    if not _RUN.search(text):
        return None
    text, parts = _END.sub("", text[-PART:]), 1
    for further, line in lines[at + 1 : at + JOINED]:
        if further != number + parts or len(text) > PART or not _RUN.search(line):
            break
        parts += 1
        text += _END.sub("", _BEGIN.sub("", line[:PART]))
    return text if parts > 1 else None


def _found(detectors: _Detectors, path: str, lines: list[tuple[int, str]]) -> Iterator[tuple[int, _Secret]]:
    seen = set()
    guess = not _LOCKS.search(path)
    for at, (number, text) in enumerate(lines):
        found: list[_Secret] = []
        further = "".join(line[:PART] for _, line in lines[at + 1 : at + JOINED])
        for part in _parts(text):
            found += detectors.exact(part, further)
            if guess:
                found += detectors.guessed(path, part)
        if (joined := _joined(lines, at)) is not None:
            found += (each for each in detectors.exact(joined) if each.kind != _KEY)
        for secret in found:
            if secret.value not in seen:
                seen.add(secret.value)
                yield number, secret


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def main() -> None:
    """Look through what the standard input has."""
    memory, seconds, *folders = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.path += folders
    how = json.loads(sys.stdin.buffer.readline())
    key = bytes.fromhex(how["key"])
    detectors = _Detectors(how["forms"])
    count = 0
    for index, line in enumerate(sys.stdin.buffer):
        file = json.loads(line)
        for number, secret in _found(detectors, file["path"], [tuple(each) for each in file["lines"]]):
            told = {
                "file": index,
                "line": number,
                "kind": secret.kind,
                "mark": hashlib.blake2b(_bytes(secret.value), key=key, digest_size=8).hexdigest(),
                # As baselines of detect-secrets have it.
                "sha1": [hashlib.sha1(_bytes(each), usedforsecurity=False).hexdigest() for each in secret.listed],
            }
            print(json.dumps(told))
            count += 1
            if count >= MOST_FOUND:
                print("done")
                return
    print("done")


if __name__ == "__main__":
    main()

"""The masking of keys, tokens and passwords in chat, files and logs.

It masks two kinds of secrets: values that Muster itself holds, however they are escaped (core.secret_values), and text
that looks like a secret. Text that is still growing is cut before anything that may become a secret. So no secret
appears in parts, half in one edit and half in the next.

The text may be a command that an operator is asked to allow. So a secret that only its place identifies ends at the
characters that a shell acts on, and no command can hide behind `token=`. The text may also be 100 kB that an attacker
chose to make the search slow. So every repetition here is bounded, or the next one cannot begin inside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from core.secret_values import SHORTEST, SecretValues

MASK = "[redacted]"

# Formats as their issuers document them: Anthropic, OpenAI and compatible services, GitHub, GitLab, Slack, AWS,
# Google, npm, PyPI, Hugging Face, Matrix (Synapse) access tokens, and Discord bots (the first part is the bot's ID,
# decimal, in base64). A bare `sk-` needs a capital, or a digit in an unbroken run: `sk-learn-something-long` is a name.
# Each begins with fixed characters, which are found quickly.
_FORMATS = (
    ("sk-ant-", r"[A-Za-z0-9_-]{16,}"),
    ("sk-", r"(?:proj|svcacct|admin|or)-[A-Za-z0-9_-]{20,}"),
    ("sk-", r"(?=[a-z0-9_-]{0,60}[A-Z])[A-Za-z0-9_-]{20,}"),
    ("sk-", r"(?=[a-z]{0,60}[0-9])[a-z0-9]{20,}"),
    ("gh", r"[opsur]_[A-Za-z0-9]{20,}"),
    ("github_pat_", r"[A-Za-z0-9_]{20,}"),
    ("glpat-", r"[A-Za-z0-9_-]{16,}"),
    ("xox", r"[abeoprs]-(?=[A-Za-z-]{0,60}[0-9])[A-Za-z0-9-]{10,}"),
    ("AKIA", r"[A-Z0-9]{16}"),
    ("ASIA", r"[A-Z0-9]{16}"),
    ("AIza", r"[A-Za-z0-9_-]{30,}"),
    ("npm_", r"[A-Za-z0-9]{30,}"),
    ("pypi-Ag", r"[A-Za-z0-9_-]{40,}"),
    ("hf_", r"[A-Za-z0-9]{30,}"),
    ("syt_", r"[A-Za-z0-9+/]{1,400}_[A-Za-z0-9]{16,}_[A-Za-z0-9]{4,}"),
    ("syl_", r"[A-Za-z0-9+/]{1,400}_[A-Za-z0-9]{16,}_[A-Za-z0-9]{4,}"),
    (
        "[MNO]",
        r"[DTjz][AEIMQUYcgk][w-z0-5](?:[MNO][DTjz][AEIMQUYcgk][w-z0-5]){4,5}(?:[MNO][DTjz][AEIMQUYcgk]|[MNO][AQgw])?"
        r"\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",
    ),
)


def _begin_before(begin: str) -> str:
    """Return an assertion after `begin`: before it stands no letter or digit, except for the end of a terminal color
    (`\x1b[31m`)."""
    return rf"(?:(?<![A-Za-z0-9]{begin})|(?<=[0-9;\[]m{begin}))"


_BEGIN = _begin_before("")
_KNOWN_FORMATS = tuple(re.compile(begin + _begin_before(begin) + rest) for begin, rest in _FORMATS)


def known_formats() -> tuple[str, ...]:
    """Return regular expressions of keys and tokens that are known by their form alone."""
    return tuple(form.pattern for form in _KNOWN_FORMATS)


# JSON Web Tokens (RFC 7519). At most 64 characters of a name may precede the token in the same run.
_WEB_TOKEN = re.compile(
    rf"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{{0,64}}?(?P<secret>{_BEGIN}"
    r"eyJ[A-Za-z0-9_-]{10,}+\.eyJ[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,})"
)
# Private keys (RFC 7468, RFC 4716, RFC 9580 section 6.2): the header, then runs of base64, however they are indented,
# quoted, numbered or escaped, or added in a diff. A run under 16 characters belongs to the key only as the last one
# before the footer.
_BETWEEN = r"(?:\\[nrt]|[\s\\\"',:→#*-])"
# Not possessive: Python 3.11.2 loses the end of a possessive repeat with a look-ahead inside.
_TO_LAST = rf"(?:(?!-----END){_BETWEEN}){{0,200}}"
_RUN = rf"(?>{_BETWEEN}*+(?:[A-Za-z0-9+/=]{{16,}}|[0-9]{{1,6}}(?={_BETWEEN})))"
_KEY = (
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    rf"(?:{_BETWEEN}{{0,80}}+(?:Proc-Type|DEK-Info|Version|Comment): [\w .,:/()-]{{0,200}})*+{_RUN}++"
)
_PRIVATE_KEY = re.compile(
    rf"{_KEY}(?:{_TO_LAST}[A-Za-z0-9+/=]{{1,15}}(?={_TO_LAST}\+?-----END))?"
    rf"(?:{_TO_LAST}\+?-----END [A-Z0-9 ]{{0,40}}PRIVATE KEY(?: BLOCK)?-----)?"
)
_GROWING_KEY = re.compile(
    rf"{_KEY}{_BETWEEN}*+[A-Za-z0-9+/=]{{0,15}}+{_BETWEEN}*+(?:(?<=-----END )[A-Z0-9 ]{{0,40}}-{{0,5}})?\Z"
)
# A secret that only its place identifies: no characters that a shell acts on, and no scripts that write without spaces.
_PLACED = r"(?:(?!\$\(|[\"'`,;|&<>(){}\[\]])[!-~\u00a1-\u052f])"
_IN_URL = re.compile(
    r"://[^\s/:@?#]*+:(?=[!-.0-~\u00a1-\u052f]*@)"
    r"(?P<secret>(?:(?!\$\(|@[^\s/@]*(?:[\s/]|\Z)|[/?#`|;&<>])[!-~\u00a1-\u052f])+)"
)
_BEARER = re.compile(
    rf"(?:\b|{_BEGIN})(?i:bearer|basic)"
    r"\s{1,8}(?P<secret>(?=[A-Za-z._~+/-]{0,200}?(?:[0-9=]|[a-z][A-Z]))[A-Za-z0-9._~+/=-]{16,})"
)
# Paths, addresses, variables and calls are not secrets, nor are unquoted words or numbers (`token_count = 12345678`).
_ORDINARY = r"(?!\[redacted\]|\$|[.~]{0,2}/[a-z_.-]+/|[a-z+]{2,10}://|[\w.]*\()"
_ASSIGNED = re.compile(
    r"(?i:api[_-]?key|secret|token|passw(?:or)?d|passphrase)[sS]?(?![a-z])[\w-]{0,32}\\?[\"']?\s{0,4}[:=]\s{0,4}"
    rf"(?:\\?[\"']{_ORDINARY}(?P<quoted>{_PLACED}{{8,}})"
    rf"|{_ORDINARY}(?P<mixed>(?={_PLACED}{{0,200}}?[0-9])(?={_PLACED}{{0,200}}?[A-Za-z]){_PLACED}{{8,}}))"
)
_IN_ENVIRONMENT = re.compile(
    rf"(?:API_?KEY|SECRET|TOKEN(?!IZ)|PASSW(?:OR)?D|PASSPHRASE)[A-Z0-9_]{{0,32}}={_ORDINARY}(?P<secret>{_PLACED}{{8,}})"
)
# The egress URL of an agent without a sandbox (egress.http.agent_listeners): any process that knows the path can spend
# in the agent's name.
_WAY_OUT = re.compile(r"//127\.0\.0\.1:[0-9]{1,5}/(?P<secret>[A-Za-z0-9_-]{32})(?=/(?:anthropic|openai)(?![\w-]))")
#: Patterns that find their beginning quickly.
_QUICK = (_WAY_OUT, *_KNOWN_FORMATS, _PRIVATE_KEY, _IN_URL, _IN_ENVIRONMENT)
#: Slow ones, each with words of which a text with such a secret has one, in any case.
_SLOW = (
    (_WEB_TOKEN, ("eyj",)),
    (_BEARER, ("bearer", "basic")),
    (_ASSIGNED, ("api", "secret", "token", "passw", "passphrase")),
)

#: The maximum length of a secret in a known format; at most this much of a growing text's last word is held back.
_LONGEST_WORD = 4096
#: The characters of words in scripts with spaces: Latin, Greek and Cyrillic letters, digits, signs.
_WORD_CHARACTERS = "".join(map(chr, [*range(0x21, 0x7F), *range(0xA1, 0x530)]))


@dataclass(frozen=True, slots=True)
class SecretMasker:
    """A function that masks secrets. `known` are exact values that Muster holds; `extra` are regular expressions."""

    known: frozenset[str] = field(default=frozenset(), repr=False)
    extra: tuple[str, ...] = ()
    values: SecretValues = field(default_factory=SecretValues, repr=False, compare=False)
    """The exact values; other owners of the object may add more."""
    _extra: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_extra", tuple(map(re.compile, self.extra)))
        self.values.learn(self.known)

    def learn(self, known: Iterable[str]) -> None:
        """Add values to mask. No value is ever removed, since old text may be quoted."""
        object.__setattr__(self, "known", self.known | frozenset(known))
        self.values.learn(self.known)

    def __call__(self, text: str) -> str:
        """Return `text` with every secret masked."""
        shown, end = [], 0
        for begin, after in self._spans(text):
            shown += [text[end:begin], MASK]
            end = after
        return "".join([*shown, text[end:]])

    def of_growing(self, text: str) -> str:
        """Return the part of a growing `text` that may be shown now, masked.

        The last word is held back, because it may be the beginning of a key. The beginning of a known value and a
        private key without its end are held back as well.
        """
        return self(text[: self.shown_of_growing(text)])

    def shown_of_growing(self, text: str) -> int:
        """Return how many characters of a growing `text` may be shown now, once they are masked."""
        safe = max(begin_of_last_word(text), len(text) - _LONGEST_WORD)
        safe = min(safe, self.values.shown_of(text))
        for begin, after in self._spans(text):
            if begin < safe < after:
                safe = begin
        growing_key = _GROWING_KEY.search(text[:safe])
        return safe if growing_key is None else growing_key.start()

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Return the spans of the secrets, in order and without overlap."""
        result: list[tuple[int, int]] = []
        for begin, end in sorted(self._found(text)):
            if result and begin <= result[-1][1]:
                result[-1] = (result[-1][0], max(end, result[-1][1]))
            elif begin < end:
                result.append((begin, end))
        return result

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        yield from self.values.spans_of(text)
        if "…" in text:
            for value in self.values.known:
                if len(value) >= SHORTEST:
                    yield from _cut_off(text, value)
        folded = text.casefold()
        slow = (pattern for pattern, words in _SLOW if any(word in folded for word in words))
        for pattern in (*_QUICK, *slow):
            for match in pattern.finditer(text):
                yield match.span(match.lastgroup or 0)
        for pattern in self._extra:
            for match in pattern.finditer(text):
                yield match.span()


def _cut_off(text: str, value: str) -> Iterator[tuple[int, int]]:
    """Yield the spans in which `text` has a beginning of `value` that was cut off with a `…`."""
    head = value[: min(8, len(value) // 2)]
    begin = text.find(head)
    while begin >= 0:
        length = len(head)
        while length < len(value) and text.startswith(value[length], begin + length):
            length += 1
        end = begin + length
        if text.startswith("…", end):
            yield begin, end
        begin = text.find(head, begin + 1)


def beginning(text: str, redact: Callable[[str], str], most: int = 20_000) -> str:
    """Return the masked beginning of `text`, for a caller that shows even less of it.

    Only a complete secret is recognized, so text must be masked before it is cut. About `most` characters of a longer
    text are searched, and a secret that continues after them is left out completely.
    """
    if len(text) <= most or not isinstance(redact, SecretMasker):
        return redact(text)
    return redact.of_growing(text[:most])


def redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """Return a JSON value with every string in it redacted."""
    # Long lists say the same words again and again; each is looked through once.
    return _redacted(value, cache(redact) if isinstance(value, list | tuple) else redact)


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list | tuple):
        return [_redacted(item, redact) for item in value]
    if isinstance(value, dict):
        return {key: _redacted(item, redact) for key, item in value.items()}
    return value


def redacted_mapping(value: Mapping[str, Any], redact: Callable[[str], str]) -> dict[str, Any]:
    return {key: _redacted(item, redact) for key, item in value.items()}


def begin_of_last_word(text: str) -> int:
    """Return the start of the last word of `text`, which may continue after it."""
    return len(text.rstrip(_WORD_CHARACTERS))

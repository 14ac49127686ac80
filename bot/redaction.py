"""What must not leave for chat, files or logs: keys, tokens, passwords.

Two kinds of secret are known: those that Muster holds itself (exact values) and those that look like one. Text that is
still being written is cut before anything that may yet grow into a secret, so that none shows half in one edit and half
in the next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MASK = "[redacted]"

# Formats as their issuers document them: Anthropic, OpenAI, GitHub, GitLab, Slack, AWS, Google, npm, PyPI,
# Hugging Face, Discord bots, Matrix (Synapse) access tokens, JSON Web Tokens, and private keys in PEM.
_FORMATS = (
    r"sk-ant-[A-Za-z0-9_-]{16,}",
    r"sk-(?:proj-|svcacct-|or-)?[A-Za-z0-9_-]{20,}",
    r"gh[opsur]_[A-Za-z0-9]{20,}",
    r"github_pat_[A-Za-z0-9_]{20,}",
    r"glpat-[A-Za-z0-9_-]{16,}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"A(?:KIA|SIA)[A-Z0-9]{16}",
    r"AIza[A-Za-z0-9_-]{30,}",
    r"npm_[A-Za-z0-9]{30,}",
    r"pypi-[A-Za-z0-9_-]{40,}",
    r"hf_[A-Za-z0-9]{30,}",
    r"sy[tl]_[A-Za-z0-9]+_[A-Za-z0-9]{16,}_[A-Za-z0-9]{4,}",
    r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",
    r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)", re.S
)
_IN_URL = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(?=@)", re.I)
_BEARER = re.compile(r"(?P<before>\b(?:authorization\s*[:=]\s*)?(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{16,}", re.I)
_ASSIGNED = re.compile(
    r"(?P<before>\b[\w-]*(?:api[_-]?key|secret|token|passw(?:or)?d)[\w-]*[\"']?\s*[:=]\s*[\"']?)(?!\[redacted\])[^\s\"'`,;]{8,}",
    re.I,
)

#: No secret of a known format is longer; what is held back while text is still growing.
_LONGEST_WORD = 4096


@dataclass(frozen=True, slots=True)
class Redaction:
    """Masks secrets. `known` are exact values that Muster holds; values under eight characters are left alone, since
    masking every occurrence of a short word would hide more than it protects."""

    known: frozenset[str] = frozenset()
    extra: tuple[str, ...] = ()
    _formats: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _values: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = sorted((value for value in self.known if len(value) >= 8), key=len, reverse=True)
        formats = "|".join(f"(?:{pattern})" for pattern in (*_FORMATS, *self.extra))
        object.__setattr__(self, "_formats", re.compile(rf"(?<![A-Za-z0-9])(?:{formats})"))
        object.__setattr__(self, "_values", re.compile("|".join(map(re.escape, known))) if known else None)

    def __call__(self, text: str) -> str:
        """`text` with every secret in it masked."""
        if self._values is not None:
            text = self._values.sub(MASK, text)
        text = _PRIVATE_KEY.sub(MASK, text)
        text = self._formats.sub(MASK, text)
        for pattern in (_IN_URL, _BEARER, _ASSIGNED):
            text = pattern.sub(rf"\g<before>{MASK}", text)
        return text

    def of_growing(self, text: str) -> str:
        """The part of `text` that may be shown while more of it is coming, masked.

        Held back are the last word, which may be the beginning of a key, and the beginning of a known value.
        """
        return self(text[: self._safe_length(text)])

    def _safe_length(self, text: str) -> int:
        word = re.search(r"\S*\Z", text)
        safe = word.start() if word is not None and len(word.group()) <= _LONGEST_WORD else len(text)
        # A name that announces a secret goes with it: `token = abc...`, `Bearer abc...`.
        announced = re.search(r"(?:[\w\"'-]+\s*[:=]\s*|\bbearer\s+|\bbasic\s+)\Z", text[:safe], re.I)
        if announced is not None:
            safe = announced.start()
        for value in self.known:
            for length in range(min(len(value) - 1, len(text)), 0, -1):
                if text.endswith(value[:length]):
                    safe = min(safe, len(text) - length)
                    break
        return safe

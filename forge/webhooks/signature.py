"""Whether a delivery was signed with the webhook's secret.

Gitea and Forgejo send the bare hexadecimal HMAC-SHA-256 of the body in ``X-Gitea-Signature``, GitHub the same after
``sha256=`` in ``X-Hub-Signature-256``. Neither covers the headers: the delivery's id can be replaced by anybody who
repeats a body.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Literal

ForgeKind = Literal["gitea", "github"]

#: The header with the signature, and the prefix of its value.
_SIGNATURES: Mapping[ForgeKind, tuple[str, str]] = {
    "gitea": ("X-Gitea-Signature", ""),
    "github": ("X-Hub-Signature-256", "sha256="),
}
#: Fewer characters can be guessed from one delivery.
SHORTEST_SECRET = 16


def is_signed(kind: ForgeKind, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Return whether the body was signed with the secret; compared in constant time.

    Raises:
        ValueError: the secret is too short. Gitea signs with an empty one, too: everybody could.
    """
    if len(secret) < SHORTEST_SECRET:
        raise ValueError(
            f"The secret of the webhook has {len(secret)} characters; at least {SHORTEST_SECRET} are safe."
        )
    header, prefix = _SIGNATURES[kind]
    expected = prefix + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), headers.get(header, "").encode(errors="replace"))

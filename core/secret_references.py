"""References to secrets: a configuration file says where a secret is, never what it is.

``env:NAME`` is an environment variable, ``file:PATH`` a file, ``keyring:NAME`` an entry of the service ``muster`` in
the desktop's keyring. This module is in `core` because connectors, agents and the orchestrator take references.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from core.errors import MusterError

#: The service of Muster's entries in a keyring: ``keyring set muster NAME``.
KEYRING_SERVICE = "muster"

#: The maximum length of a secret in bytes; a longer file was named by mistake.
LONGEST_SECRET = 65_536

_PATTERN = re.compile(r"(env|file|keyring):(.+)", re.DOTALL)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

HOW_TO_REFER = (
    "Write env:NAME (an environment variable), file:PATH (a file that only you can read) or keyring:NAME "
    f"(after `keyring set {KEYRING_SERVICE} NAME`)."
)


class Unresolved(MusterError):
    """The secret that a reference names was not found."""

    code = "secret.missing"


@dataclass(frozen=True, slots=True)
class Reference:
    """The location of a secret. Safe to show and to log."""

    scheme: Literal["env", "file", "keyring"]
    name: str
    """The variable, the absolute path, or the keyring's entry."""

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}"

    @classmethod
    def parse(cls, text: str, *, folder: Path | None = None) -> Reference:
        """Read ``env:NAME``, ``file:PATH`` or ``keyring:NAME``.

        Args:
            text: the reference. It never appears in an error, since it may be the secret itself.
            folder: the base of relative paths; without it paths must be absolute.

        Raises:
            ValueError: `text` is not a reference; the message says what to write.
        """
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"expected a reference to a secret; this file must not contain secrets. {HOW_TO_REFER}")
        scheme, name = match[1], match[2].strip()
        if scheme == "env":
            if not _VARIABLE.fullmatch(name):
                raise ValueError("env: needs the name of an environment variable, like env:MATRIX_TOKEN")
            return cls("env", name)
        if scheme == "keyring":
            return cls("keyring", name)
        path = Path(name)
        if name.startswith("~"):
            try:
                path = path.expanduser()
            except RuntimeError:
                raise ValueError("the home folder in this path is unknown; write the absolute path") from None
        if not path.is_absolute():
            if folder is None:
                raise ValueError("the path after file: must be absolute, like file:/etc/muster/token")
            path = folder / path
        return cls("file", str(path))

    def resolve(self, environ: Mapping[str, str] | None = None) -> str:
        """Return the secret from the environment, a file, or the keyring (which may block).

        Raises:
            Unresolved: the secret was not found.
        """
        if self.scheme == "env":
            secret = (os.environ if environ is None else environ).get(self.name, "").strip()
            if not secret:
                raise Unresolved(
                    f"The environment variable {self.name} is not set. Set it in the environment of muster."
                )
            return secret
        return _from_file(self.name) if self.scheme == "file" else _from_keyring(self.name)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept a string for `parse` in a settings model; ``context["folder"]`` is the base of relative paths."""
        from pydantic_core import core_schema  # the ground floor stays light

        def validate(value: object, info: ValidationInfo) -> Reference:
            if isinstance(value, Reference):
                return value
            if not isinstance(value, str):
                raise ValueError(f"expected a reference to a secret. {HOW_TO_REFER}")
            return cls.parse(value, folder=(info.context or {}).get("folder"))

        return core_schema.with_info_plain_validator_function(
            validate, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema for editors of muster.yaml."""
        return {"type": "string", "pattern": "^(env|file|keyring):.+", "description": HOW_TO_REFER}


def _from_file(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(LONGEST_SECRET + 1)
    except FileNotFoundError:
        raise Unresolved(f"The file {path} does not exist. Write the secret into it, readable only by you.") from None
    except OSError as error:
        raise Unresolved(f"The file {path} cannot be read: {error.strerror}.") from None
    if len(content) > LONGEST_SECRET:
        raise Unresolved(f"The file {path} is longer than {LONGEST_SECRET} bytes: it does not hold a secret alone.")
    try:
        secret = content.decode().strip()
    except UnicodeDecodeError:
        raise Unresolved(f"The file {path} is not text (UTF-8).") from None
    if not secret:
        raise Unresolved(f"The file {path} is empty. Write the secret into it.")
    return secret


def _from_keyring(name: str) -> str:
    try:
        keyring: Any = importlib.import_module("keyring")
    except ImportError:
        raise Unresolved(
            f"keyring:{name} needs the Python package keyring. Install it with "
            "`pip install 'muster-fleet[keyring]'`, or use env: or file:."
        ) from None
    try:
        secret: str | None = keyring.get_password(KEYRING_SERVICE, name)
    except Exception as error:
        # Backends raise exceptions of their own: a locked keyring, no desktop bus, ...
        raise Unresolved(
            f"The keyring cannot be asked for {name}: {type(error).__name__}: {error}. After a boot it is locked until "
            "somebody logs in. Without a login, use file:PATH, or env:NAME and a variable of the service."
        ) from error
    if not secret:
        raise Unresolved(f"The keyring has no entry {name}. Create it with `keyring set {KEYRING_SERVICE} {name}`.")
    return secret

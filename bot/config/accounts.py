"""Accounts of muster.yaml: logins and API keys, each with one model provider.

accounts:
  main:
    provider: anthropic
    kind: subscription
    windows: [5h, 7d]
    serves: {roles: [coder], models: [opus]}
    at_once: 4
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from bot.config.limits import Limits, read_quota_window, read_window
from bot.config.types import Block, Url
from budget.windows import window_boundaries as windows
from core.file_permissions import exposed
from core.secret_references import Reference
from core.validation_errors import suggestion
from fleet.roster import loader

Kind = Literal["api_key", "subscription"]


def _length(value: object) -> str:
    try:
        word = read_window(value)
    except ValueError:
        raise ValueError(
            f"found {str(value)[:40]!r}; expected the length of a subscription's window, from a minute to 366 days, "
            "such as 5h or 7d."
        ) from None
    if word in ("day", "week", "month"):
        raise ValueError(
            f"found {word}; expected the length of a subscription's window, such as 5h or 7d: the provider decides "
            f"when it begins, not the calendar."
        )
    return word


def _written(value: object) -> object:
    if isinstance(value, str | int):
        length = _length(value)
        return {"name": length, "length": length}
    return value


class QuotaWindow(Block):
    """A window of a subscription: the provider's name for it, and its length."""

    name: Annotated[str, BeforeValidator(read_quota_window)]
    length: Annotated[str, BeforeValidator(_length), WithJsonSchema({"type": "string"})]

    @field_validator("length")
    @classmethod
    def _as_called(cls, value: str, info: ValidationInfo) -> str:
        name = str(info.data.get("name", ""))
        called = windows.length_of(name.partition("_")[0])
        if called is not None and called != windows.length_of(value):
            raise ValueError(f"found {value} for the window {name}, which says another length. Make the two agree.")
        return value

    @property
    def length_s(self) -> float:
        """The length in seconds."""
        return float(windows.length_of(self.length) or 0)


def _runtimes(value: tuple[str, ...]) -> tuple[str, ...]:
    for word in value:
        if word not in loader.RUNTIMES:
            raise ValueError(
                f"no runtime is called {word[:40]!r}.{suggestion(word, list(loader.RUNTIMES))} There are "
                f"{', '.join(loader.RUNTIMES)}."
            )
    return value


_Words = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(min_length=1, max_length=100)]


class ServesBlock(Block):
    """The work that an account may be used for. An absent key sets no restriction."""

    roles: _Words | None = None
    runtimes: Annotated[_Words, AfterValidator(_runtimes)] | None = None
    models: _Words | None = Field(default=None, description="A model, or the family in its name: opus.")

    def fits(self, *, role: str, runtime: str, model: str | None) -> bool:
        """Return whether such work may use the account. Without a model the runtime chooses one, which fits."""
        return (
            (self.roles is None or role in self.roles)
            and (self.runtimes is None or runtime in self.runtimes)
            and (
                self.models is None or model is None or any(each.casefold() in model.casefold() for each in self.models)
            )
        )


_EVERYTHING = ServesBlock()


class Account(Block):
    """A login or an API key with one provider of models."""

    provider: Literal["anthropic", "openai"]
    credential: Reference | None = Field(
        default=None, description="A reference to the key. Default: the runtime's own login."
    )
    base_url: Url | None = Field(
        default=None,
        description="The provider's address, if it is not the usual one, with or without /v1 at the end.",
    )
    kind: Kind = Field(
        default="api_key",
        description=(
            "api_key: billed by use, and bounded by `limit`. subscription: bounded by the provider's windows."
        ),
    )
    passthrough: bool = Field(
        default=False,
        description=(
            "true: the runtime's own login goes through the egress unchanged. Only for agents without a "
            "sandbox, on the machine of the person whose login it is."
        ),
    )
    server_tools: bool = Field(
        default=False,
        description=(
            "true: agents may use tools that the provider runs. They are billed per call or by time, which "
            "budgets do not count."
        ),
    )
    premium: bool = Field(
        default=False,
        description=(
            "true: agents may request service tiers and speeds above the list price. Budgets in USD count "
            "the list price."
        ),
    )
    limit: Limits = Field(
        default=(), description="For api_key: the most that may be used with it, such as {usd: 100, window: month}."
    )
    windows: Annotated[
        tuple[Annotated[QuotaWindow, BeforeValidator(_written, json_schema_input_type=QuotaWindow | str)], ...],
        Field(max_length=8),
    ] = Field(
        default=(),
        description="For subscription: its windows, such as [5h, 7d]. Default: those that the provider reports.",
    )
    serves: ServesBlock = Field(default=_EVERYTHING, description="What it may be used for. Default: everything.")
    at_once: int | None = Field(
        default=None, ge=1, le=1000, description="The most sessions at a time. Default: no limit."
    )

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if self.passthrough and self.credential is not None:
            raise ValueError(
                "found passthrough: true beside a credential. With passthrough the runtime's own login is used; leave "
                "one of them."
            )
        return self

    @field_validator("limit")
    @classmethod
    def _of_a_key(cls, value: Limits, info: ValidationInfo) -> Limits:
        if value and info.data.get("kind") == "subscription":
            raise ValueError(
                "a subscription is bounded by its windows. Remove limit, or set it under budgets.accounts."
            )
        if any(each.unit == "share" for each in value):
            raise ValueError("an api_key has no windows, so it cannot have a share of one. Write tokens or usd.")
        return value

    @field_validator("windows")
    @classmethod
    def _of_a_subscription(cls, value: tuple[QuotaWindow, ...], info: ValidationInfo) -> tuple[QuotaWindow, ...]:
        if value and info.data.get("kind") == "api_key":
            raise ValueError(
                "an api_key is paid by use and has no windows. Write kind: subscription beside it, or bound it by "
                "limit, like limit: {usd: 100, window: month}."
            )
        if not value:
            raise ValueError(
                "an empty list names no window. Write the provider's windows, like [5h, 7d], or leave windows out to "
                "use those that the provider reports."
            )
        first: dict[object, str] = {}
        for name in (each.name for each in value):
            # Windows with a suffix may share a length: 7d, and 7d_opus for one model family.
            found = first.setdefault(windows.length_of(name) or name, name)
            if found != name:
                raise ValueError(f"found {found} and {name}, which have the same length; write one of them.")
            if [each.name for each in value].count(name) > 1:
                raise ValueError(f"the window {name} is listed twice; write it once.")
        return value

    @property
    def upstream(self) -> str | None:
        """`base_url` without a final /v1, since each provider path begins with /v1; None if `base_url` is not set."""
        return None if self.base_url is None else self.base_url.removesuffix("/v1")


def exposed_credentials(accounts: Mapping[str, Account]) -> dict[str, str]:
    """Return a warning for each account whose credential file others can read, by account. Reads files."""
    found = {}
    for name, account in accounts.items():
        reference = account.credential
        if reference is not None and reference.scheme == "file" and (open_ := exposed(Path(reference.name))):
            found[name] = f"The credential of the account {name} is open: {open_}. Close it with chmod 600."
    return found

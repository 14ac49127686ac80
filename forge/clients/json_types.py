"""What the JSON of forges has in common: null where there is nothing, and fields that Muster does not need."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from forge.model.references import RepositoryName

Item = TypeVar("Item")


class ForgeJson(BaseModel):
    """A JSON object of a forge. Unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def _empty_text(value: object) -> object:
    return "" if value is None else value


def _empty_list(value: object) -> object:
    return () if value is None else value


def _repository(value: object) -> object:
    return RepositoryName.parse(value) if isinstance(value, str) else value


FullName = Annotated[RepositoryName, BeforeValidator(_repository)]
"""A repository, written ``owner/repo``."""
NullableText = Annotated[str, BeforeValidator(_empty_text)]
"""A text; empty where the forge says null."""
NullableList = Annotated[tuple[Item, ...], BeforeValidator(_empty_list)]
"""A list; empty where the forge says null."""


def web_address(text: str) -> str:
    """Return an address that a browser may open, or an empty text: others choose it, and it may be a script."""
    return text if text.startswith(("https://", "http://")) and text.isprintable() else ""

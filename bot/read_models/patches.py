"""What changed between two revisions of a document with many rows, as JSON. Pure.

A fleet changes with each heartbeat, and then only a few of its rows do. A patch is about one revision of the reader's,
its `base`, so it is sent on a connection on which the reader got that revision. Otherwise, the whole document is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from bot.read_models.codec import NotOnWire, fields_from_wire, from_wire, to_wire
from bot.read_models.documents import Document
from bot.read_models.fleet import FleetAgent, FleetModel

#: The document that is patched.
PATCHED: Final = "fleet"
#: The share of changed rows from which on the whole document is sent.
_MOST: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPatch:
    """The rows of a fleet that changed."""

    changed: tuple[FleetAgent, ...] = ()
    """New rows, and those that differ."""
    order: tuple[str, ...] | None = None
    """The names of all rows; None: as before."""


def patch_of(known: Document | None, new: Document) -> dict[str, object] | None:
    """Return the patch that makes `new` of what a reader has, or None if it should get all of it.

    Secrets have been masked in both.
    """
    if known is None or (known.name, known.epoch) != (new.name, new.epoch):
        return None
    old, value = known.value, new.value
    if not isinstance(old, FleetModel) or not isinstance(value, FleetModel):
        return None
    before = {each.name: each for each in old.agents}
    changed = tuple(each for each in value.agents if before.get(each.name) != each)
    names = tuple(each.name for each in value.agents)
    if len(changed) > _MOST * len(names) or len(set(names)) != len(names):
        return None
    rows = FleetPatch(changed=changed, order=None if names == tuple(each.name for each in old.agents) else names)
    others = [each.name for each in fields(FleetModel) if each.name != "agents"]
    return {
        "name": new.name,
        "epoch": new.epoch,
        "base": known.revision,
        "revision": new.revision,
        "made_at": new.made_at,
        "fields": {
            name: to_wire(getattr(value, name), str) for name in others if getattr(value, name) != getattr(old, name)
        },
        "rows": to_wire(rows, str),
    }


def patched(known: Document | None, patch: Mapping[str, object]) -> Document:
    """Return the document that a patch makes. Rows that did not change are the same objects.

    Raises:
        NotOnWire: it is no patch, or it is about another revision than the known one.
    """
    revision, made_at, given = patch.get("revision"), patch.get("made_at"), patch.get("fields")
    if known is None or (patch.get("name"), patch.get("epoch"), patch.get("base")) != (
        known.name, known.epoch, known.revision,
    ):  # fmt: skip
        raise NotOnWire("a patch of a revision that is not known here")
    if not isinstance(known.value, FleetModel) or not isinstance(given, dict) or "agents" in given:
        raise NotOnWire("a patch of a document without rows")
    if type(revision) is not int or not isinstance(made_at, int | float) or revision <= known.revision:
        raise NotOnWire("a patch without a later revision")
    rows = from_wire(FleetPatch, patch.get("rows"))
    agents = {each.name: each for each in known.value.agents} | {each.name: each for each in rows.changed}
    order = [each.name for each in known.value.agents] if rows.order is None else rows.order
    if len(set(order)) != len(order) or not set(order) <= agents.keys():
        raise NotOnWire("a patch with an order of rows that are not there")
    value = replace(
        known.value,
        **fields_from_wire(FleetModel, given),  # type: ignore[arg-type]  # checked by the types of the fields
        agents=tuple(agents[name] for name in order),
    )
    return replace(known, revision=revision, made_at=float(made_at), value=value)

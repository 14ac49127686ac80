"""The newest state of each document, with revisions from one counter. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from bot.read_models.documents import Document, ReadModel


@dataclass(slots=True)
class Shelf:
    epoch: str
    """Tells this process's revisions from those of others."""
    _revision: int = 0
    _documents: dict[str, Document] = field(default_factory=dict)

    def put(self, name: str, value: ReadModel | None, at: float) -> Document:
        """Keep a value that was gathered at `at`, and return its document. An equal value keeps its revision."""
        known = self._documents.get(name)
        if known is None or known.value != value:
            self._revision += 1
            known = Document(name=name, revision=self._revision, epoch=self.epoch, made_at=at, value=value)
        else:
            known = Document(name=name, revision=known.revision, epoch=self.epoch, made_at=at, value=known.value)
        self._documents[name] = known
        return known

    def get(self, name: str) -> Document | None:
        """Return a document, or None if it was never put or was dropped."""
        return self._documents.get(name)

    def drop(self, names: Iterable[str]) -> None:
        """Forget documents that nobody reads."""
        for name in names:
            self._documents.pop(name, None)

    def changed_after(self, names: Iterable[str], after: tuple[str, int] | None) -> list[Document]:
        """Return the documents that a reader lacks, the one that changed first before the others.

        Args:
            names: the documents that it reads.
            after: epoch and revision of the newest document that it has.
        """
        revision = after[1] if after is not None and after[0] == self.epoch else 0
        known = [each for name in names if (each := self._documents.get(name)) is not None]
        return sorted((each for each in known if each.revision > revision), key=lambda each: each.revision)

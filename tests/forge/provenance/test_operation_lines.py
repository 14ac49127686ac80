from __future__ import annotations

import pytest

from forge.provenance.operation_lines import operation_line, read_line
from forge.provenance.record import ForgeOperation, RecordedOperation


@pytest.mark.parametrize("kind", ForgeOperation)
@pytest.mark.parametrize("refusal", [None, "out of scope"])
def test_a_line_tells_the_operation(kind: ForgeOperation, refusal: str | None) -> None:
    operation = RecordedOperation(kind=kind, target="#17", refusal=refusal)
    assert read_line(operation_line(operation)) == operation


def test_other_lines_are_no_operations() -> None:
    assert read_line("read #17") is None
    assert read_line("refused a comment on #17") is None
    assert read_line("") is None

"""An agent starts without reading what nobody asks for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from fleet import lean_acp


def test_the_protocols_models_are_made_without_descriptions_and_other_models_with() -> None:
    class Ours(BaseModel):
        model_config = ConfigDict(use_attribute_docstrings=True)

        answer: int
        """What it is."""

    assert lean_acp.LEAN
    assert Ours.model_fields["answer"].description == "What it is."

"""An agent starts without reading what nobody asks for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from fleet.host.acp import fast_import


def test_the_protocols_models_are_made_without_descriptions_and_other_models_with() -> None:
    class Ours(BaseModel):
        model_config = ConfigDict(use_attribute_docstrings=True)

        answer: int
        """What it is."""

    assert fast_import.LEAN
    assert Ours.model_fields["answer"].description == "What it is."


def test_the_protocols_models_are_built_when_they_are_used_first() -> None:
    from acp import schema

    models = [each for each in vars(schema).values() if isinstance(each, type) and issubclass(each, BaseModel)]
    used = schema.PromptRequest.model_validate(
        {"sessionId": "s", "prompt": [{"type": "text", "text": "Good morning."}]}
    )
    assert type(used).__pydantic_complete__
    assert any(not each.__pydantic_complete__ for each in models), "most are never used"

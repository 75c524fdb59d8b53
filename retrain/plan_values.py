"""What the values of a new plan's keys must be, beyond their type, to be meant.

A plan in force is not held to it: what it says stays readable for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import AfterValidator, ValidationInfo

from registry.bundles.card import is_model_name
from registry.yaml_files import MisfitError, held_strictly

_Number = TypeVar("_Number", int, float)
_Several = TypeVar("_Several", bound=Sequence[object])


def at_most(most: int) -> AfterValidator:
    """Return what refuses a number beyond one that anybody could mean."""

    def checked(value: _Number, info: ValidationInfo) -> _Number:
        if held_strictly(info) and not value <= most:
            raise ValueError(f"at most {most:,} can be meant")
        return value

    return AfterValidator(checked)


def _each_once(values: _Several, info: ValidationInfo) -> _Several:
    for place, value in enumerate(values):
        if held_strictly(info) and value in values[:place]:
            raise MisfitError("stands twice: name each once", place)
    return values


def _not_blank(text: str, info: ValidationInfo) -> str:
    if held_strictly(info) and not text.strip():
        raise ValueError("is blank: say what is meant, or leave it out")
    return text


def _of_a_model(name: str, info: ValidationInfo) -> str:
    if held_strictly(info) and not is_model_name(name):
        raise ValueError(
            "is no model's name, which has small letters, digits, '.', '_' and '-', starts with "
            "a letter or digit, and has at most 63 characters"
        )
    return name


#: Of a list in which nothing may stand twice.
ONCE = AfterValidator(_each_once)
#: A text that says something.
Stated = Annotated[str, AfterValidator(_not_blank)]
ModelName = Annotated[str, AfterValidator(_of_a_model)]

"""Recipes: what a model's first version is to be, as a YAML file.

Later versions inherit all of it from the version that they are derived from.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from registry.yaml_files import read_specification
from retrain.change_plan import TrainingRules


class IntendedUseRecipe(BaseModel):
    """Which scans the model may read; the fields of a card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    modalities: list[str]
    body_parts: list[str]
    views: list[str]
    age_years: tuple[int, int] | None
    unknown_age: str


class Recipe(BaseModel):
    """A model's first version."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    tier: str
    base: str
    purpose: str
    not_for: list[str]
    licence: str
    intended_use: IntendedUseRecipe
    task: str
    #: the last one is the finding
    classes: Annotated[list[str], Field(min_length=2, max_length=2)]
    site: str
    training: TrainingRules
    #: shares of patients; what is left becomes the reference
    training_share: Annotated[float, Field(gt=0, lt=1)]
    selection_share: Annotated[float, Field(gt=0, lt=1)]
    locked_share: Annotated[float, Field(gt=0, lt=1)]


def parse_recipe(text: str, *, source: str) -> Recipe:
    """Read a recipe.

    Raises
    ------
    BadInputError
        Naming the file, the line and the key.
    """
    return read_specification(text, Recipe, source=source, what="a recipe; see docs/recipes.md")

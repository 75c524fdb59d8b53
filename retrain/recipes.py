"""Recipes: what a model's first version is to be, as a YAML file.

Later versions inherit all of it from the version that they are derived from.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from registry.bundles.heads import Task, TaskKind
from registry.errors import BundleError
from registry.yaml_files import MisfitError, read_specification
from retrain.change_plan import Strategy, TrainingRules, as_several, attempts

#: Strategies that can make a model which has no head yet, and no shift to repair.
FIRST = (Strategy.LINEAR_PROBE, Strategy.LORA, Strategy.FULL)


def _can_be_trained(value: object) -> object:
    if value not in set(TaskKind):
        raise ValueError(
            f"{value!r} is no kind of task that heads are trained for: name "
            f"{' or '.join(TaskKind)}. The encoder of a segmenter can be imported, and scans "
            "watched by their embeddings"
        )
    return value


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
    kind: Annotated[TaskKind, BeforeValidator(_can_be_trained)] = TaskKind.MULTI_CLASS
    #: of a multi-class task exactly one holds, of a multi-label task each is a finding by itself
    classes: Annotated[list[str], Field(min_length=1, max_length=64)]
    #: of a multi-class task: the class that is the finding; the last of two where it is left out
    positive: str | None = None
    #: whose labelled history it is made from
    sites: Annotated[list[str], Field(min_length=1)]
    #: how it is made; of several, the best on the selection set
    strategy: Annotated[tuple[Strategy, ...], BeforeValidator(as_several)] = (Strategy.FULL,)
    training: TrainingRules
    #: shares of patients; what is left becomes the reference
    training_share: Annotated[float, Field(gt=0, lt=1)]
    selection_share: Annotated[float, Field(gt=0, lt=1)]
    locked_share: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _task_is_one(self) -> Self:
        if (
            self.kind is TaskKind.MULTI_CLASS
            and self.positive is None
            and len(self.classes) > 2
        ):
            raise MisfitError(
                "is missing: name the class that is the finding, whose sensitivity and specificity "
                f"at the threshold decide, of {', '.join(self.classes)}",
                "positive",
            )
        try:
            _ = self.declared
        except BundleError as error:
            raise MisfitError(str(error), "classes") from error
        return self

    @property
    def declared(self) -> Task:
        """The task as the recipe declares it: training will set threshold and temperature."""
        positive = self.positive
        if self.kind is TaskKind.MULTI_CLASS and positive is None:
            positive = self.classes[-1]
        return Task(
            name=self.task, kind=self.kind, classes=tuple(self.classes), positive=positive
        )

    @model_validator(mode="after")
    def _strategy_makes_a_first_version(self) -> Self:
        known = ", ".join(one.value for one in FIRST)
        if not self.strategy:
            raise MisfitError(f"a first version has to be made: by {known}", "strategy")
        for strategy in self.strategy:
            if strategy not in FIRST:
                raise MisfitError(
                    f"{strategy.value} repairs a model, and a first version has to be made: by "
                    f"{known}",
                    "strategy",
                )
            if not attempts(self.training, [strategy]):
                raise MisfitError(
                    f"none is left for {strategy.value}: add one, or one that names no strategy",
                    *("training", "candidates"),
                )
        return self


def parse_recipe(text: str, *, source: str) -> Recipe:
    """Read a recipe.

    Raises
    ------
    BadInputError
        Naming the file, the line and the key.
    """
    return read_specification(text, Recipe, source=source, what="a recipe; see docs/recipes.md")

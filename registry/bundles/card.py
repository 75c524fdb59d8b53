"""A bundle's card: what the model is for, when not to use it, and what it was trained on."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from registry.bundles.documents import Section, read_yaml, write_yaml
from registry.canonical import Json
from registry.errors import BundleError, IncompleteCardError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_DIGEST = re.compile(r"(sha256:)?[0-9a-f]{64}")
# DICOM code strings (PS3.5 section 6.2, VR CS).
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")

# De-identification reports every age above 89 as 90 (45 CFR 164.514(b)(2)(i)(C)).
OLDEST_REPORTED_AGE_YEARS = 90


def is_model_name(text: str) -> bool:
    """Return whether a model could have this name."""
    return _NAME.fullmatch(text) is not None


class Tier(StrEnum):
    """A place on the spectrum of foundation models, from any image to one task."""

    GENERAL = "general"
    MODALITY = "modality"
    ORGAN = "organ"
    TASK = "task"

    @property
    def depth(self) -> int:
        """0 for general, 1 for modality, 2 for organ and task, which stand side by side."""
        return {"general": 0, "modality": 1}.get(self.value, 2)

    def may_derive_from(self, base: Tier) -> bool:
        """Say whether `base` stands at this tier or above it."""
        return base.depth <= self.depth


class UnknownAge(StrEnum):
    """What happens to a scan whose patient's age is not known."""

    ACCEPT = "accept"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntendedUse:
    """Which scans a model may read.

    Codes are DICOM's defined terms in capitals; an empty tuple admits any,
    known or not. A scan that does not state what is restricted is refused.

    Raises
    ------
    BundleError
        If a code is no DICOM code string or the ages are impossible.
    """

    modalities: tuple[str, ...] = ()  #: Modality (0008,0060)
    body_parts: tuple[str, ...] = ()  #: BodyPartExamined (0018,0015)
    views: tuple[str, ...] = ()  #: ViewPosition (0018,5101)
    #: Completed years, both ends included, or None for any. A patient of 90
    #: or more counts as 90, so an upper end above 89 admits all of them.
    age_years: tuple[int, int] | None = None
    unknown_age: UnknownAge = UnknownAge.REFUSE

    def __post_init__(self) -> None:
        for code in (*self.modalities, *self.body_parts, *self.views):
            if not _CODE.fullmatch(code):
                raise BundleError(
                    f"intended_use: {code!r} is not a DICOM code (capitals, digits, _, space)"
                )
        if self.age_years is not None:
            youngest, oldest = self.age_years
            if not 0 <= youngest <= oldest:
                raise BundleError(
                    f"intended_use: age_years [{youngest}, {oldest}] is not 0 <= min <= max"
                )

    def refusal(
        self,
        *,
        modality: str | None,
        body_part: str | None,
        view: str | None,
        age_years: float | None,
    ) -> str | None:
        """Say why a scan is outside the intended use, or return None where it is inside.

        The sentence speaks of the model's limits and never repeats a value of
        the scan, so that it can stand in any log.

        >>> use = IntendedUse(modalities=("CR", "DX"), age_years=(1, 5))
        >>> use.refusal(modality="MR", body_part="CHEST", view="PA", age_years=3.0)
        'modality is not CR or DX'
        >>> use.refusal(modality="DX", body_part="CHEST", view="PA", age_years=40.0)
        'age above 5 years'
        """
        for what, value, allowed in (
            ("modality", modality, self.modalities),
            ("body part", body_part, self.body_parts),
            ("view", view, self.views),
        ):
            if allowed and value not in allowed:
                return (
                    f"{what} is {'not ' if value else 'not stated, must be '}{_either(allowed)}"
                )
        return self._refusal_by_age(age_years)

    def _refusal_by_age(self, age_years: float | None) -> str | None:
        if self.age_years is None:
            return None
        if age_years is None or math.isnan(age_years):
            return "age is not known" if self.unknown_age is UnknownAge.REFUSE else None
        youngest, oldest = self.age_years
        # A child of five and a half is five years old: ages count completed years.
        completed = min(math.floor(age_years), OLDEST_REPORTED_AGE_YEARS)
        if completed < youngest:
            return f"age below {youngest} years"
        if completed > oldest:
            return f"age above {oldest} years"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """One set of data that a model was trained on.

    Raises
    ------
    BundleError
        If the digest is not a SHA-256, the description is blank or scans is negative.
    """

    #: SHA-256 in hexadecimal, with or without the prefix "sha256:". None only
    #: where somebody else trained and the data were never at hand.
    digest: str | None
    description: str
    scans: int

    def __post_init__(self) -> None:
        if self.digest is not None and not _DIGEST.fullmatch(self.digest):
            raise BundleError(
                f"training_data: digest {self.digest!r} must be a SHA-256 in hexadecimal"
            )
        if not self.description.strip():
            raise BundleError("training_data: description must not be blank")
        if self.scans < 0:
            raise BundleError(f"training_data: scans {self.scans} must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a person must know before a model reads a scan.

    Raises
    ------
    BundleError
        If the name cannot be a model's name, or a required text is blank.
    """

    name: str  #: small letters, digits, '.', '_' and '-'; at most 63
    tier: Tier
    purpose: str
    intended_use: IntendedUse
    not_for: tuple[str, ...]  #: when not to use it; at least one
    training_data: tuple[TrainingData, ...]  #: at least one
    licence: str  #: SPDX expression where there is one

    def __post_init__(self) -> None:
        if not is_model_name(self.name):
            raise BundleError(
                f"card: name {self.name!r} must be small letters, digits, '.', '_' or '-', "
                "start with a letter or digit and have at most 63 characters"
            )
        blank = [key for key in ("purpose", "licence") if not getattr(self, key).strip()]
        blank += [key for key in ("not_for", "training_data") if not getattr(self, key)]
        if blank:
            raise BundleError(f"card {self.name}: {', '.join(blank)} must not be empty")

    def to_json(self) -> dict[str, Json]:
        """Return the card as it stands in card.yaml."""
        use = self.intended_use
        return {
            "name": self.name,
            "tier": self.tier.value,
            "purpose": self.purpose,
            "intended_use": {
                "modalities": list(use.modalities),
                "body_parts": list(use.body_parts),
                "views": list(use.views),
                "age_years": None if use.age_years is None else list(use.age_years),
                "unknown_age": use.unknown_age.value,
            },
            "not_for": list(self.not_for),
            "training_data": [
                {"digest": data.digest, "description": data.description, "scans": data.scans}
                for data in self.training_data
            ],
            "licence": self.licence,
        }


_REQUIRED = ("name", "tier", "purpose", "intended_use", "not_for", "training_data", "licence")
# Every restriction is spelt out, "any" included: what a card leaves unsaid
# must not read as "any".
_REQUIRED_OF_USE = ("modalities", "body_parts", "views", "age_years", "unknown_age")


def read_card(path: Path) -> Card:
    """Return the card in the YAML file `path`.

    Raises
    ------
    IncompleteCardError
        If required entries are absent or empty; it names all of them.
    BundleError
        If an entry is wrong or not known.
    """
    section = read_yaml(path)
    missing = [key for key in _REQUIRED if section.is_empty(key)]
    if "intended_use" not in missing:
        use = section.section("intended_use")
        missing += [f"intended_use.{key}" for key in _REQUIRED_OF_USE if key not in use]
    if missing:
        raise IncompleteCardError(path=str(path), missing=missing)
    card = Card(
        name=section.text("name"),
        tier=section.choice("tier", Tier),
        purpose=section.text("purpose"),
        intended_use=_intended_use(use),
        not_for=section.texts("not_for"),
        training_data=tuple(_training_data(item) for item in section.sections("training_data")),
        licence=section.text("licence"),
    )
    section.close()
    return card


def write_card(path: Path, card: Card) -> None:
    """Write the card to the YAML file `path`."""
    write_yaml(path, card.to_json())


def _intended_use(section: Section) -> IntendedUse:
    ages = section.integers_or_none("age_years", count=2)
    use = IntendedUse(
        modalities=section.texts("modalities"),
        body_parts=section.texts("body_parts"),
        views=section.texts("views"),
        age_years=None if ages is None else (ages[0], ages[1]),
        unknown_age=section.choice("unknown_age", UnknownAge),
    )
    section.close()
    return use


def _training_data(section: Section) -> TrainingData:
    data = TrainingData(
        digest=section.text_or_none("digest"),
        description=section.text("description"),
        scans=section.integer("scans"),
    )
    section.close()
    return data


def _either(codes: Iterable[str]) -> str:
    *first, last = codes
    return f"{', '.join(first)} or {last}" if first else last

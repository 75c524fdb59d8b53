from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from registry.bundles.card import (
    Card,
    IntendedUse,
    Tier,
    TrainingData,
    UnknownAge,
    read_card,
    write_card,
)
from registry.errors import BundleError, IncompleteCardError

DIGEST = "a" * 64
PEDIATRIC = IntendedUse(
    modalities=("CR", "DX"), body_parts=("CHEST",), views=("AP", "PA"), age_years=(1, 5)
)
INSIDE = {"modality": "DX", "body_part": "CHEST", "view": "PA", "age_years": 3.0}


def written(path: Path, card: Card, **changes: object) -> Path:
    """Write the card with some entries changed, or left out where the change is `...`."""
    content = dict(card.to_json()) | changes
    path.write_text(
        yaml.safe_dump({key: value for key, value in content.items() if value is not ...})
    )
    return path


def test_a_card_survives_its_file(card: Card, tmp_path: Path) -> None:
    write_card(tmp_path / "card.yaml", card)
    assert read_card(tmp_path / "card.yaml") == card


def test_an_incomplete_card_names_everything_that_is_missing(
    card: Card, tmp_path: Path
) -> None:
    use = {"modalities": ["CR"], "body_parts": [], "unknown_age": "accept"}
    path = written(
        tmp_path / "card.yaml", card, licence=..., purpose="  ", not_for=[], intended_use=use
    )
    with pytest.raises(IncompleteCardError) as caught:
        read_card(path)
    assert caught.value.missing == [
        "purpose",
        "not_for",
        "licence",
        "intended_use.views",
        "intended_use.age_years",
    ]
    assert "fill these in" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tear": "general"}, "'tear'"),
        ({"tier": "universe"}, "'tier' must be one of general, modality, organ, task"),
        ({"name": "Big Model"}, "name 'Big Model'"),
        ({"not_for": ["adults", ""]}, "'not_for' must be a list of texts"),
        ({"training_data": [{"digest": "abc", "description": "x", "scans": 1}]}, "'abc'"),
        ({"training_data": [{"digest": DIGEST, "description": "x", "scans": -1}]}, "scans -1"),
        ({"training_data": [{"digest": DIGEST, "scans": 1}]}, r"training_data\[0\] lacks"),
        ({"training_data": [{"digest": 12, "description": "x", "scans": 1}]}, "'digest'"),
    ],
)
def test_a_wrong_entry_is_named(
    changes: dict[str, object], says: str, card: Card, tmp_path: Path
) -> None:
    path = written(tmp_path / "card.yaml", card, **changes)
    with pytest.raises(BundleError, match=says):
        read_card(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"modalities": ["dx"]}, "'dx' is not a DICOM code"),
        ({"views": ["PA", False]}, "'views' must be a list of texts"),
        ({"age_years": [5, 1]}, r"\[5, 1\]"),
        ({"age_years": [1]}, "'age_years' must be a list of 2"),
        ({"unknown_age": "maybe"}, "'unknown_age' must be one of accept, refuse"),
        ({"gender": "any"}, "'gender'"),
    ],
)
def test_a_wrong_entry_of_the_intended_use_is_named(
    changes: dict[str, object], says: str, card: Card, tmp_path: Path
) -> None:
    use = card.to_json()["intended_use"]
    assert isinstance(use, dict)
    path = written(tmp_path / "card.yaml", card, intended_use=use | changes)
    with pytest.raises(BundleError, match=says):
        read_card(path)


@pytest.mark.parametrize(
    ("scan", "refusal"),
    [
        ({}, None),
        ({"modality": "MR"}, "modality is not CR or DX"),
        ({"modality": None}, "modality is not stated, must be CR or DX"),
        ({"body_part": "HEAD"}, "body part is not CHEST"),
        ({"view": "other"}, "view is not AP or PA"),
        ({"age_years": 5.9}, None),
        ({"age_years": 6}, "age above 5 years"),
        ({"age_years": 1}, None),
        ({"age_years": 0.99}, "age below 1 years"),
        ({"age_years": None}, "age is not known"),
        ({"age_years": float("nan")}, "age is not known"),
    ],
)
def test_a_scan_outside_the_intended_use_is_refused_by_its_first_reason(
    scan: dict[str, object], refusal: str | None
) -> None:
    assert PEDIATRIC.refusal(**(INSIDE | scan)) == refusal  # type: ignore[arg-type]


def test_an_unknown_age_passes_where_the_card_accepts_it() -> None:
    use = IntendedUse(age_years=(1, 5), unknown_age=UnknownAge.ACCEPT)
    assert use.refusal(modality=None, body_part=None, view=None, age_years=None) is None
    assert use.refusal(modality=None, body_part=None, view=None, age_years=70) is not None


def test_an_empty_use_admits_anything_even_unknown() -> None:
    assert (
        IntendedUse().refusal(modality=None, body_part=None, view=None, age_years=None) is None
    )


def test_an_upper_age_above_89_admits_everybody_older() -> None:
    use = IntendedUse(age_years=(18, 95))
    assert use.refusal(modality=None, body_part=None, view=None, age_years=101) is None


@given(
    modality=st.none() | st.just("CANARY^ALICE"),
    body_part=st.none() | st.just("CANARY^ALICE"),
    age_years=st.none() | st.floats(6, 200),
)
def test_a_refusal_never_repeats_what_the_scan_says(
    modality: str | None, body_part: str | None, age_years: float | None
) -> None:
    sentence = PEDIATRIC.refusal(
        modality=modality, body_part=body_part, view="PA", age_years=age_years
    )
    assert sentence in {
        "modality is not CR or DX",
        "modality is not stated, must be CR or DX",
    }


@pytest.mark.parametrize(
    ("tier", "bases"),
    [
        (Tier.GENERAL, {Tier.GENERAL}),
        (Tier.MODALITY, {Tier.GENERAL, Tier.MODALITY}),
        (Tier.ORGAN, set(Tier)),
        (Tier.TASK, set(Tier)),
    ],
)
def test_a_base_stands_at_the_tier_of_its_version_or_above(
    tier: Tier, bases: set[Tier]
) -> None:
    assert {base for base in Tier if tier.may_derive_from(base)} == bases


def test_a_card_in_code_is_held_to_the_same_rules() -> None:
    whole = {
        "name": "small",
        "tier": Tier.TASK,
        "purpose": "finds",
        "intended_use": IntendedUse(),
        "not_for": ("triage",),
        "training_data": (TrainingData(digest=DIGEST, description="x", scans=1),),
        "licence": "MIT",
    }
    Card(**whole)  # type: ignore[arg-type]
    for key, empty in (
        ("purpose", " "),
        ("licence", ""),
        ("not_for", ()),
        ("training_data", ()),
    ):
        with pytest.raises(BundleError, match=key):
            Card(**(whole | {key: empty}))  # type: ignore[arg-type]

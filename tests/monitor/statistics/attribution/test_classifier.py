"""What the classifier says to a pattern, and that it can be kept and read again."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from monitor.statistics.attribution.boosted_trees import BoostedTrees
from monitor.statistics.attribution.classifier import (
    SUPPORT,
    CauseClassifier,
    Doubt,
    shipped_classifier,
)
from monitor.statistics.attribution.first_level import FirstLevel
from monitor.statistics.attribution.nearness import Nearness
from monitor.statistics.attribution.pattern import Pattern
from registry.errors import BadInputError

NAMES = (("size", "patients"), ("finding", "change"), ("pixels", "moved"))


def classifier(*, least_farther: float = 0.1, least_confidence: float = 0.5) -> CauseClassifier:
    """Return one for which a large change of the finding is prevalence, else it is technical.

    Examples of technical have no change and moved pixels; of prevalence a change alone.
    """
    rng = np.random.default_rng(0)
    technical = np.array([0.0, 0.0, 3.0]) + 0.1 * rng.standard_normal((40, 3))
    prevalence = np.array([0.0, 2.0, 0.0]) + 0.1 * rng.standard_normal((40, 3))
    return CauseClassifier(
        names=NAMES,
        kinds=("prevalence", "technical"),
        causes=(FirstLevel.PREVALENCE, FirstLevel.TECHNICAL),
        trees=BoostedTrees(
            baseline=np.zeros(2),
            classes=np.array([0]),
            roots=np.array([0]),
            columns=np.array([1, -1, -1]),
            values=np.array([1.0, -3.0, 3.0]),
            lefts=np.array([1, -1, -1]),
            rights=np.array([2, -1, -1]),
        ),
        knots=np.array([0.0, 1.0]),
        calibration=np.array([[0.0, 1.0], [0.0, 1.0]]),
        least_confidence=least_confidence,
        typicality=np.array([0.5, 1.0]),
        typical=np.tile(np.linspace(-2.0, 1.0, 99), (2, 1)),
        least_farther=np.full(2, least_farther),
        supporting=np.zeros(1),
        least_supported=0.0,
        nearness=Nearness(
            middles=np.zeros(3),
            scales=np.ones(3),
            pieces=np.array([-1, 0, 1]),
            examples=np.concatenate([prevalence, technical]),
            kinds=np.repeat([0, 1], 40),
            held_out=np.tile(np.linspace(0.0, 2.0, 99), (2, 2, 1)),
        ),
        ordinary=np.zeros(3),
    )


def pattern(change: float, moved: float) -> Pattern:
    return Pattern(
        pieces={
            "size": {"patients": 2.0},
            "finding": {"change": change},
            "pixels": {"moved": moved},
        }
    )


@pytest.mark.parametrize(
    ("change", "moved", "cause"),
    [(2.0, 0.0, FirstLevel.PREVALENCE), (0.0, 3.0, FirstLevel.TECHNICAL)],
)
def test_a_typical_pattern_is_named(change: float, moved: float, cause: FirstLevel) -> None:
    found = classifier().answer(pattern(change, moved))
    assert (found.cause, found.doubt, found.unlike) == (cause, Doubt.NONE, ())
    assert found.confidence == pytest.approx(found.shares[0][1], abs=1e-6)


def test_a_pattern_of_a_kind_that_was_never_shown_is_unknown_and_says_why() -> None:
    found = classifier().answer(pattern(2.0, 3.0))
    assert found.leading is FirstLevel.PREVALENCE
    assert found.shares[0][1] > 0.9
    assert (found.cause, found.doubt) == (FirstLevel.UNKNOWN, Doubt.UNLIKE)
    assert found.unlike == ("pixels",)
    assert found.farther == pytest.approx(0.01)


def test_an_answer_that_is_not_sure_enough_is_unknown() -> None:
    found = classifier(least_confidence=0.999).answer(pattern(2.0, 0.0))
    assert (found.cause, found.doubt) == (FirstLevel.UNKNOWN, Doubt.UNSURE)


def test_many_patterns_are_judged_as_each_by_itself() -> None:
    known = classifier()
    rows = [pattern(2.0, 0.0), pattern(2.0, 3.0), pattern(0.0, 3.0)]
    judged = known.judge(np.stack([one.values for one in rows]))
    one_by_one = [known.answer(one) for one in rows]
    assert known.doubtful(judged).tolist() == [
        one.cause is FirstLevel.UNKNOWN for one in one_by_one
    ]
    assert known.farther(judged) == pytest.approx([one.farther for one in one_by_one])


def test_the_share_of_less_typical_windows_is_a_rank_and_never_0() -> None:
    known = classifier()
    judged = known.judge(np.stack([pattern(2.0, x).values for x in (0.0, 0.5, 1.0, 1.5, 9.0)]))
    shares = known.farther(judged).tolist()
    assert all(before >= after for before, after in pairwise(shares))
    assert shares[-1] == pytest.approx(1 / 100)


def asked_for_support() -> CauseClassifier:
    """Return the same, which asks that pixels came off more than in 30 % of technical windows."""
    known = classifier()
    names, width = (*NAMES, *SUPPORT), len(SUPPORT)
    nearness = known.nearness
    return replace(
        known,
        names=names,
        supporting=np.linspace(0.0, 1.0, 99),
        least_supported=0.3,
        nearness=replace(
            nearness,
            middles=np.zeros(len(names)),
            scales=np.ones(len(names)),
            pieces=np.append(nearness.pieces, [-1] * width),
            examples=np.pad(nearness.examples, ((0, 0), (0, width))),
        ),
        ordinary=np.zeros(len(names)),
    )


@pytest.mark.parametrize(
    ("change", "moved", "off", "doubt"),
    [
        (0.0, 3.0, 0.8, Doubt.NONE),
        (0.0, 3.0, 0.1, Doubt.UNSUPPORTED),
        # Another mixture of scans needs no pixels that came off.
        (2.0, 0.0, 0.1, Doubt.NONE),
        # A technical change like none that was simulated is one where they clearly did.
        (0.0, 9.0, 0.4, Doubt.UNLIKE),
        (0.0, 9.0, 0.6, Doubt.NONE),
        (2.0, 9.0, 0.6, Doubt.UNLIKE),
    ],
)
def test_technical_is_named_only_where_pixels_came_off(
    change: float, moved: float, off: float, doubt: Doubt
) -> None:
    pieces = {name: dict(own) for name, own in pattern(change, moved).pieces.items()}
    told = Pattern(pieces={**pieces, SUPPORT[0][0]: {name: off for _, name in SUPPORT}})
    known = asked_for_support()
    assert known.answer(told).doubt is doubt
    again = CauseClassifier.of_bytes(known.to_bytes())
    assert again.answer(told).doubt is doubt


def test_a_kept_classifier_says_the_same() -> None:
    known = classifier()
    again = CauseClassifier.of_bytes(known.to_bytes())
    assert again.names == known.names
    for one in (pattern(2.0, 0.2), pattern(0.0, 2.5), pattern(2.0, 3.0)):
        before, after = known.answer(one), again.answer(one)
        assert (before.cause, before.unlike) == (after.cause, after.unlike)
        assert before.farther == pytest.approx(after.farther, abs=0.02)


def test_numbers_that_it_did_not_learn_from_are_refused() -> None:
    with pytest.raises(BadInputError, match="fit it again"):
        classifier().answer(Pattern(pieces={"finding": {"change": 2.0}}))


def test_each_cause_demands_its_own_share_of_typical_windows() -> None:
    strict = replace(classifier(), least_farther=np.array([1.01, 0.0]))
    change, moved = (
        Pattern(
            pieces={
                "size": {"patients": 2.0},
                "finding": {"change": change},
                "pixels": {"moved": moved},
            }
        )
        for change, moved in ((2.0, 0.0), (0.0, 3.0))
    )
    assert strict.answer(change).doubt is Doubt.UNLIKE
    assert strict.answer(moved).cause is FirstLevel.TECHNICAL


def test_what_is_no_classifier_is_refused() -> None:
    with pytest.raises(BadInputError, match="no cause classifier"):
        CauseClassifier.of_bytes(b"nothing of the kind")


def test_the_classifier_that_ships_is_whole() -> None:
    shipped = shipped_classifier()
    assert set(shipped.named) == set(FirstLevel) - {FirstLevel.UNKNOWN}
    assert 0.0 < shipped.least_confidence < 1.0
    assert ((shipped.least_farther > 0.0) & (shipped.least_farther < 0.5)).all()
    assert 0.0 < shipped.least_supported < 0.5
    assert set(SUPPORT) <= set(shipped.names)
    assert (np.diff(shipped.supporting) >= 0).all()
    assert shipped.nearness.held_out.shape[:2] == (len(shipped.kinds), len(shipped.compared))
    assert (np.diff(shipped.typical, axis=1) >= 0).all()
    assert (np.diff(shipped.nearness.held_out, axis=2) >= 0).all()


def test_a_pattern_like_nothing_simulated_is_unknown_to_the_classifier_that_ships() -> None:
    shipped = shipped_classifier()
    rng = np.random.default_rng(5)
    scattered = shipped.ordinary + 6.0 * shipped.nearness.scales * rng.choice(
        (-1.0, 1.0), (20, len(shipped.names))
    )
    assert shipped.doubtful(shipped.judge(scattered)).all()


def test_format_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.statistics.attribution.classifier._FORMAT", 1)
    content = classifier().to_bytes()
    monkeypatch.undo()
    with pytest.raises(BadInputError, match="format 1"):
        CauseClassifier.of_bytes(content)


def test_what_weighs_most_comes_first() -> None:
    found = classifier().answer(pattern(2.0, 0.0))
    assert found.evidence[0].piece == "finding"
    assert found.evidence[0].contribution > found.evidence[-1].contribution

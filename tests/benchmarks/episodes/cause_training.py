"""Fit the classifier of causes to simulated windows, and count how sure it may be.

    python tests/benchmarks/episodes/cause_training.py [--cache FOLDER] [--write]

Two pools of windows have other images and other changes of the image chain than each other.
Trees that were fitted to the larger one answer for the windows of the other: so answers are
counted, and thresholds set. The other way round trees know too few changes to stand for those
that ship, which are fitted to both. The test windows, of a third pool, are for
`cause_tables.py`. With `--write` the classifier that ships is replaced, and its card.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "drift"))

import numpy as np
import numpy.typing as npt
from cause_embeddings import CACHE
from cause_nearness import fit_nearness
from cause_patterns import (
    Flags,
    Floats,
    Table,
    Texts,
    cause_of,
    evenly,
    halved,
    joined,
    only,
    shown,
    table,
)
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from monitor.statistics.attribution import classifier as shipped
from monitor.statistics.attribution.boosted_trees import BoostedTrees
from monitor.statistics.attribution.classifier import CauseClassifier

#: kinds of cause that are left out in turn, alone and mixed
LEFT_OUT = ("technical", "prevalence", "case mix", "population", "routing")
#: of held-out windows of each cause that are rightly named, the share that may be given up so
#: that kinds of cause that were never shown are not named: those that are least typical of it,
#: and of technical ones first those in which pixels came off least
GIVEN_UP = 0.10
UNSUPPORTED = 0.08
#: of case mix: a few scans of patients of another kind look like other forms of the same ones
GIVEN_UP_OF_CASE_MIX = 0.35
#: leaves of a tree, and the fewest windows in one
_LEAVES, _LEAST_LEAF = 31, 100
#: share of the numbers that a split may look at, and the penalty on leaves
_COLUMNS, _PENALTY = 0.05, 30.0
#: wrong answers that the threshold allows, of windows of about the size that the goal is for and
#: larger: fewer than the goal, for other images and changes than those that it is counted on
_WRONG, _COUNTED = 0.015, 150
_QUANTILES = 250
_BINS = 250
_KNOTS = np.linspace(0.0, 1.0, 41)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boosting:
    """How many rounds, and how fast they learn."""

    rounds: int = 200
    rate: float = 0.06


#: where many classifiers are fitted, not to answer but to learn from
FAST = Boosting(rounds=40, rate=0.25)


def fit(
    pools: Sequence[Table],
    *,
    boosting: Boosting = Boosting(),
    without: str | None = None,
    seed: int = 0,
) -> CauseClassifier:
    """Fit a classifier on the detected windows of two pools.

    Parameters
    ----------
    pools : the one that is trained on, and the one by which answers are counted
    boosting : how many rounds, and how fast they learn
    without : a cause that is left out, with all that is mixed of it
    """
    training, held_out = (shown(one, without) for one in pools)
    everything = joined((training, held_out))
    kinds = sorted(set(everything.kind.tolist()))
    typicality = learn_typicality(pools, without=without, seed=seed)
    crossed = replace(
        _unsure(training, held_out, kinds, boosting=boosting, seed=seed), typicality=typicality
    )
    judged = crossed.judge(held_out.values)
    named = np.array([cause.value for cause in crossed.named])
    least_farther = np.full(len(named), GIVEN_UP)
    least_farther[named == "technical"] = GIVEN_UP - UNSUPPORTED
    least_farther[named == "case mix"] = GIVEN_UP_OF_CASE_MIX
    right = named[judged.leading] == held_out.truth
    typical = _typical(judged.readings @ typicality, judged.leading, right, causes=len(named))
    technical = right & (held_out.truth == "technical")
    supporting = np.quantile(
        judged.support[technical] if technical.any() else np.zeros(1),
        np.linspace(0.0, 1.0, _QUANTILES),
    )
    weights, large = evenly(held_out), held_out.scans >= _COUNTED
    calibration = _right_by_share(named[judged.leading], judged.shares, named, right, weights)
    counted = replace(
        crossed,
        calibration=calibration,
        typical=typical,
        least_farther=least_farther,
        supporting=supporting,
        least_supported=UNSUPPORTED,
    )
    given_up = counted.unlike(judged) | counted.unsupported(judged)
    return replace(
        _unsure(everything, everything, kinds, boosting=boosting, seed=seed),
        nearness=replace(
            fit_nearness(everything, everything, kinds, seed=seed),
            # Distances are those of windows that the examples were not taken from.
            held_out=crossed.nearness.held_out,
        ),
        calibration=calibration,
        typicality=typicality,
        typical=typical,
        least_farther=least_farther,
        supporting=supporting,
        least_supported=UNSUPPORTED,
        least_confidence=_least_confidence(
            counted.confidences(judged.shares), right | given_up, weights * large
        ),
    )


def learn_typicality(pools: Sequence[Table], *, without: str | None, seed: int) -> Floats:
    """Learn on kinds that are left out in turn what tells a known kind from one never shown.

    Trees of fast rounds on half of the first pool's windows answer for the second's; where a
    kind was left out, all that they say of it is wrong. What is left out for good is never
    seen here, so that what is learnt can be tested on it.
    """
    readings, known, weights = [], [], []
    causes = [cause for cause in LEFT_OUT if cause != without]
    own, other = (shown(one, without) for one in pools)
    for cause in (None, *causes):
        training = halved(shown(own, cause))
        asked = halved(other if cause is None else only(other, cause))
        kinds = sorted(set(training.kind.tolist()))
        made = _unsure(training, shown(other, cause), kinds, boosting=FAST, seed=seed)
        judged = made.judge(asked.values)
        named = np.array([one.value for one in made.named])[judged.leading]
        readings.append(judged.readings)
        known.append(named == asked.truth)
        own_weights = evenly(asked)
        # As much weight for what is not known, all kinds together, as for what is.
        share = 1.0 if cause is None else 1.0 / len(causes)
        weights.append(own_weights * share / own_weights.sum())
    values = np.concatenate(readings)
    middles, scales = values.mean(axis=0), values.std(axis=0)
    fitted = LogisticRegression().fit(
        (values - middles) / scales,
        np.concatenate(known),
        sample_weight=np.concatenate(weights) * len(values) / 2,
    )
    return np.asarray(fitted.coef_[0] / scales)


def _typical(
    scores: Floats, leading: npt.NDArray[np.int64], right: Flags, *, causes: int
) -> Floats:
    """Return quantiles of the scores of rightly named windows of each cause, [C, Q]."""
    shares = np.linspace(0.0, 1.0, _QUANTILES)
    return np.stack(
        [np.quantile(scores[right & (leading == cause)], shares) for cause in range(causes)]
    )


def _unsure(
    training: Table,
    held_out: Table,
    kinds: Sequence[str],
    *,
    boosting: Boosting,
    seed: int,
) -> CauseClassifier:
    """Return a classifier that does not know yet how sure it may be."""
    causes = tuple(cause_of(kind) for kind in kinds)
    return CauseClassifier(
        names=training.names,
        kinds=tuple(kinds),
        causes=causes,
        trees=_trees(training, kinds, boosting=boosting, seed=seed),
        knots=_KNOTS,
        calibration=np.ones((len(set(causes)), len(_KNOTS))),
        least_confidence=0.0,
        typicality=np.zeros(2),
        typical=np.zeros((len(set(causes)), 1)),
        least_farther=np.zeros(len(set(causes))),
        supporting=np.zeros(1),
        least_supported=0.0,
        nearness=fit_nearness(training, held_out, kinds, seed=seed),
        ordinary=np.median(training.values, axis=0),
    )


def _right_by_share(
    found: Texts, shares: Floats, named: Texts, right: Flags, weights: Floats
) -> Floats:
    """Return how often each leading cause was right, by its share of the votes, [C, M]."""
    rows = []
    for at, cause in enumerate(named.tolist()):
        own = found == cause
        curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        # Two answers that nobody gave, one of them wrong: a cause that seldom led is not sure.
        curve.fit(
            np.append(shares[own, at], (0.0, 1.0)),
            np.append(right[own].astype(float), (0.0, 1.0)),
            sample_weight=np.append(weights[own], (1.0, 1.0)),
        )
        rows.append(curve.predict(_KNOTS))
    return np.stack(rows)


def leading(classifier: CauseClassifier, values: Floats) -> tuple[Floats, Texts]:
    """Return the shares of the causes [W, C] for many patterns, and the leading cause [W]."""
    shares = classifier.by_cause(classifier.votes(values))
    named = np.array([cause.value for cause in classifier.named])
    return shares, named[shares.argmax(axis=1)]


def answers(classifier: CauseClassifier, values: Floats) -> Texts:
    """Return what the classifier says to many patterns, as `answer` does to one."""
    judged = classifier.judge(values)
    named = np.array([cause.value for cause in classifier.named])
    return np.where(classifier.doubtful(judged), "unknown", named[judged.leading])


def _least_confidence(confidences: Floats, right: Flags, weights: Floats) -> float:
    """Return the least threshold at which few enough answers are wrong."""
    for threshold in np.unique(confidences):
        wrong = (weights * (~right & (confidences >= threshold))).sum() / weights.sum()
        if wrong <= _WRONG:
            return float(threshold)
    return 1.0


def _trees(
    training: Table, kinds: Sequence[str], *, boosting: Boosting, seed: int
) -> BoostedTrees:
    fitted = HistGradientBoostingClassifier(
        learning_rate=boosting.rate,
        max_iter=boosting.rounds,
        max_leaf_nodes=_LEAVES,
        min_samples_leaf=_LEAST_LEAF,
        l2_regularization=_PENALTY,
        max_features=_COLUMNS,
        early_stopping=False,
        random_state=seed,
    )
    fitted.fit(
        _rounded(training.values),
        np.searchsorted(kinds, training.kind),
        sample_weight=evenly(training),
    )
    # Scikit-learn has no public way to a tree's nodes; `votes` is compared with it below.
    columns, values, lefts, rights, roots, classes = [], [], [], [], [], []
    start = 0
    for of_round in fitted._predictors:
        for at, nodes in enumerate(tree.nodes for tree in of_round):
            leaf = nodes["is_leaf"].astype(bool)
            columns.append(np.where(leaf, -1, nodes["feature_idx"]).astype(np.int64))
            values.append(np.where(leaf, nodes["value"], nodes["num_threshold"]))
            lefts.append(np.where(leaf, -1, nodes["left"].astype(np.int64) + start))
            rights.append(np.where(leaf, -1, nodes["right"].astype(np.int64) + start))
            roots.append(start)
            classes.append(at)
            start += len(nodes)
    trees = BoostedTrees(
        baseline=fitted._baseline_prediction.ravel().astype(np.float64),
        classes=np.array(classes),
        roots=np.array(roots),
        columns=np.concatenate(columns),
        values=np.concatenate(values),
        lefts=np.concatenate(lefts),
        rights=np.concatenate(rights),
    )
    some = _rounded(training.values)[::50]
    assert np.allclose(trees.probabilities(some), fitted.predict_proba(some), atol=1e-6)
    return trees


def _rounded(values: Floats) -> Floats:
    """Return numbers [n, F] rounded to the nearest of 250 quantiles of each column.

    Splits lie halfway between neighbours, so that trees see the same in other numbers, and
    finding the bins of many windows by weight, which takes longer than the trees, is spared.
    """
    quantiles = np.quantile(values, np.linspace(0, 1, _BINS), axis=0)
    columns = []
    for column, own in zip(values.T, quantiles.T, strict=True):
        known = np.unique(own)
        columns.append(known[np.searchsorted((known[1:] + known[:-1]) / 2, column)])
    return np.stack(columns, axis=1)


def facts(pools: Sequence[Table], made: CauseClassifier) -> dict[str, object]:
    """Return what the card says."""
    everything = joined(pools)
    detected = everything.where(everything.detected & (everything.truth != "none"))
    return {
        "what": "names the cause of a detected shift on the first level of the tree of causes",
        "kinds": list(made.kinds),
        "windows": {
            kind: int((detected.kind == kind).sum()) for kind in sorted(set(detected.kind))
        },
        "scans_in_a_window": sorted({int(scans) for scans in everything.scans}),
        "images": "children's chest radiographs (PneumoniaMNIST), adults' (NIH), and scans that "
        "do not belong: all that the sample holds; two references, one of scans as the source "
        "holds them, one of scans that differ in dose, sharpness and gray values",
        "encoders": "MobileNetV2 and EfficientNet, each as monitoring encoder of the other's "
        "champion",
        "least_confidence": made.least_confidence,
        "unlike_its_cause_below": {
            cause.value: round(float(least), 2)
            for cause, least in zip(made.named, made.least_farther, strict=True)
        },
        "technical_unsupported_below": made.least_supported,
        "wrong_answers_allowed": _WRONG,
        "not_for": [
            "windows that the drift test does not reject: there is no shift to explain",
            "fewer than 60 patients in a window, or than 200 labelled scans in the reference",
            "findings of more than two classes",
            "practice (labels show it) and acquisition against pipeline (metadata and place do)",
        ],
        "known_weakness": "other body parts and modalities were not tried; changes of the image "
        "chain of families that were never simulated are often left unknown, alone and mixed; so "
        "are those that hardly move pixels away from what the scans show",
        "figures": "tests/benchmarks/README.md, Causes",
    }


def write(classifier: CauseClassifier, said: dict[str, object]) -> None:
    """Replace the classifier that ships, and its card."""
    folder = Path(shipped.__file__).parent
    content = classifier.to_bytes()
    (folder / shipped.CLASSIFIER).write_bytes(content)
    card = {"sha256": hashlib.sha256(content).hexdigest(), **said}
    (folder / shipped.CARD).write_text(
        json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    pools = [table(part, chosen.cache) for part in ("training", "calibration")]
    made = fit(pools)
    sys.stdout.write(f"least confidence {made.least_confidence:.3f}\n")
    if chosen.write:
        write(made, facts(pools, made))

"""Performance estimated without labels, against the truth, beside NannyML's CBPE.

    python tests/benchmarks/episodes/estimated_performance.py [--references N] [--windows N]

A unit is one champion (a logistic head on one encoder's embeddings of real chest radiographs)
with one labelled reference, and windows of every scenario, drawn from children that neither
has seen. Tilts are along directions of the other encoder's space, so that they are not of the
champion's own making. The truth is that of the population that a window is drawn from. What
was measured is kept line by line in `results/estimated_performance.jsonl`, so that a run can
stop and go on. Embeddings are those of the drift benchmark, and
of `cause_embeddings.py` where another acquisition is needed: run that first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_pool}_NUM_THREADS", "1")
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE), str(HERE.parent / "drift")]

import numpy as np  # noqa: E402  after the thread limits
import numpy.typing as npt  # noqa: E402
from cause_embeddings import CACHE, Unit, load  # noqa: E402
from cause_sources import children  # noqa: E402
from cause_transforms import Variant  # noqa: E402
from estimated_performance_tables import CAUSES, report  # noqa: E402
from peers import ENVIRONMENTS  # noqa: E402
from real_embeddings import real_embeddings  # noqa: E402
from results import Results  # noqa: E402
from scipy.cluster.vq import kmeans2  # noqa: E402
from scipy.special import logit  # noqa: E402
from sklearn.isotonic import IsotonicRegression  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

from monitor.episodes.causes import Cause  # noqa: E402
from monitor.episodes.estimating import ASSUMPTIONS  # noqa: E402
from monitor.statistics.performance.difference_of_confidences import (  # noqa: E402
    by_difference_of_confidences,
    by_thresholded_confidence,
)
from monitor.statistics.performance.estimated_performance import (  # noqa: E402
    Assumption,
    EstimatedPerformance,
    NoEstimate,
    estimate_under_covariate_shift,
    estimate_under_label_shift,
)
from monitor.statistics.performance.expected_measures import expected_measures  # noqa: E402
from monitor.statistics.performance.recalibration import CalibratedReference  # noqa: E402

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ENCODERS = ("mobilenet", "efficientnet")
REFERENCE, WINDOW = 800, 300
THRESHOLD, LEVEL = 0.7, 0.95
ACQUISITION = (
    Variant(family="noise", strength=0.05),
    Variant(family="tone", strength=6),
    Variant(family="edges", strength=1.5),
    Variant(family="blur", strength=2.2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Scans to draw windows from, with the chance of each."""

    scores: Floats
    truth: npt.NDArray[np.bool_]
    vectors: npt.NDArray[np.float32]
    chances: Floats

    def measures(self) -> dict[str, float]:
        """Return the true performance."""
        found = expected_measures(
            self.truth.astype(np.float64),
            self.chances[None] * len(self.scores),
            scores=self.scores,
            threshold=THRESHOLD,
        )
        return {name: float(values[0]) for name, values in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """Real chest radiographs of children as one encoder sees them, by their sample number."""

    vectors: npt.NDArray[np.float32]
    truth: npt.NDArray[np.bool_]
    #: on which heads are fitted
    head: Integers
    #: of which other variants are at hand
    varied: Integers
    #: the source's own test images, which differ from the others in more than prevalence
    natural: Integers

    @classmethod
    def seen_by(cls, encoder: str) -> Children:
        real = real_embeddings(encoder, ENVIRONMENTS / "embeddings")
        # These come in a random order of the sample; the label tells if it is another.
        number = np.argsort(np.random.default_rng(0).permutation(len(real.children)))
        head, varied, natural = (
            children(part).patients for part in ("head", "training", "natural")
        )
        truth = real.pneumonia[number]
        assert np.array_equal(truth[varied], children("training").pneumonia == 1)
        return cls(
            vectors=real.children[number],
            truth=truth,
            head=head,
            varied=varied,
            natural=natural,
        )

    def split(self, rng: np.random.Generator) -> tuple[Integers, Integers]:
        """Return a reference, and all others to draw windows from."""
        others = np.setdiff1d(np.arange(len(self.truth)), np.union1d(self.head, self.natural))
        chosen = rng.permutation(np.setdiff1d(others, self.varied))[:REFERENCE]
        return chosen, np.setdiff1d(others, chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """A head on one encoder, and what is needed to tilt populations by the other."""

    encoder: str
    head: LogisticRegression
    centre: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    @classmethod
    def of(cls, encoder: str, seen: Children) -> Champion:
        vectors, truth = seen.vectors[seen.head], seen.truth[seen.head]
        centre, scale = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
        head = LogisticRegression(C=3e-4, max_iter=500).fit((vectors - centre) / scale, truth)
        return cls(encoder=encoder, head=head, centre=centre, scale=scale)

    def scores(self, vectors: npt.NDArray[np.float32]) -> Floats:
        found: Floats = self.head.predict_proba((vectors - self.centre) / self.scale)[:, 1]
        return found.astype(np.float64)


def populations(
    champion: Champion, seen: Children, held_out: Integers, rng: np.random.Generator
) -> Iterator[tuple[str, Population]]:
    """Yield the population of each scenario."""
    other = Children.seen_by(next(name for name in ENCODERS if name != champion.encoder))
    scores = champion.scores(seen.vectors[held_out])
    ill, beside = seen.truth[held_out], other.vectors[held_out].astype(np.float64)
    even = np.ones(len(held_out))

    def weighted(chances: Floats) -> Population:
        return Population(
            scores=scores,
            truth=ill,
            vectors=seen.vectors[held_out],
            chances=chances / chances.sum(),
        )

    def to_prevalence(share: float) -> Floats:
        return np.where(ill, share / ill.mean(), (1.0 - share) / (1.0 - ill.mean()))

    centred = beside - beside.mean(axis=0)
    axes = centred @ np.linalg.svd(centred[:800], full_matrices=False)[2][:4].T
    along = axes[:, rng.integers(4)] * rng.choice((-1.0, 1.0))
    tilt = np.exp(0.8 * np.clip(along / along.std(), -3.0, 3.0))
    _, cluster = kmeans2(axes / axes.std(axis=0), 6, seed=rng, minit="++")
    kinds = np.exp(rng.normal(size=6))[cluster]
    # Milder or graver findings: only ill children are tilted, and their share stays.
    severity = np.where(ill, tilt * ill.sum() / tilt[ill].sum(), 1.0)
    yield "none", weighted(even)
    yield "prevalence down", weighted(to_prevalence(0.4))
    yield "prevalence up", weighted(to_prevalence(0.9))
    yield "covariate shift", weighted(tilt)
    yield "population", weighted(kinds)
    yield "case mix", weighted(severity)
    variant = ACQUISITION[rng.integers(len(ACQUISITION))]
    moved = load(Unit(chain="even", source="children", part="training", variant=variant), CACHE)
    for name, found, positive in (
        ("acquisition", moved[champion.encoder], seen.truth[seen.varied]),
        ("another hospital year", seen.vectors[seen.natural], seen.truth[seen.natural]),
    ):
        yield (
            name,
            Population(
                scores=champion.scores(found),
                truth=positive,
                vectors=found,
                chances=np.full(len(found), 1.0 / len(found)),
            ),
        )


def measure(key: str, *, windows: int, nannyml: Callable[..., list[dict[str, float]]]) -> Any:
    """Measure one champion with one reference on windows of every scenario."""
    encoder, _ = key.split("/")
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    seen = Children.seen_by(encoder)
    champion = Champion.of(encoder, seen)
    chosen, held_out = seen.split(rng)
    scores, truth = champion.scores(seen.vectors[chosen]), seen.truth[chosen]
    vectors = seen.vectors[chosen]
    references = {
        "alone": CalibratedReference.fit(scores, truth, seed=0),
        "located": CalibratedReference.fit(scores, truth, vectors=vectors, seed=0),
    }
    calibrations = _calibrations(scores, truth, references["alone"])
    before = Population(
        scores=scores,
        truth=truth,
        vectors=vectors,
        chances=np.full(REFERENCE, 1.0 / REFERENCE),
    ).measures()
    rows = []
    for scenario, population in populations(champion, seen, held_out, rng):
        drawn = [
            rng.choice(len(population.scores), WINDOW, p=population.chances)
            for _ in range(windows)
        ]
        said = population.scores[np.stack(drawn)]
        theirs = nannyml(scores=scores, truth=truth, windows=said)
        for number, window in enumerate(said):
            rows.append(
                {
                    "scenario": scenario,
                    "truth": population.measures(),
                    "nannyml": theirs[number],
                    "calibrations": {
                        name: _by_meaning(window, meaning(window))
                        for name, meaning in calibrations.items()
                    },
                    **_ours(
                        references,
                        window,
                        population.vectors[drawn[number]],
                        CAUSES[scenario],
                        seed=number,
                    ),
                }
            )
    axes = references["located"].axes
    return {
        "before": before,
        "penalty": None if axes is None else axes.penalty,
        "windows": rows,
    }


def _ours(
    references: Mapping[str, CalibratedReference],
    scores: Floats,
    vectors: npt.NDArray[np.float32],
    cause: Cause | None,
    *,
    seed: int,
) -> dict[str, Any]:
    """Return what is told by the cause, and what each way would say whatever the cause."""
    located, alone = references["located"], references["alone"]
    settings: dict[str, Any] = {"threshold": THRESHOLD, "level": LEVEL, "seed": seed}
    ways = {
        "expected": _told(
            estimate_under_covariate_shift(located, scores, vectors=vectors, **settings)
        ),
        "expected of scores alone": _told(
            estimate_under_covariate_shift(alone, scores, **settings)
        ),
        "label shift": _told(estimate_under_label_shift(alone, scores, **settings)),
    }
    assumption = Assumption.COVARIATE_SHIFT if cause is None else ASSUMPTIONS.get(cause)
    by_assumption = {
        Assumption.COVARIATE_SHIFT: ways["expected"],
        Assumption.LABEL_SHIFT: ways["label shift"],
        None: None,
    }
    opinions = {
        "difference": by_difference_of_confidences(
            located, scores, vectors=vectors, threshold=THRESHOLD
        ),
        "thresholded": by_thresholded_confidence(located, scores, threshold=THRESHOLD),
    }
    return {
        "told": by_assumption[assumption],
        "ways": ways,
        **{
            name: {"sensitivity": opinion.sensitivity, "specificity": opinion.specificity}
            for name, opinion in opinions.items()
        },
    }


def _calibrations(
    scores: Floats, truth: npt.NDArray[np.bool_], reference: CalibratedReference
) -> dict[str, Callable[[Floats], Floats]]:
    """Return the ways to calibrate scores that are compared."""
    log_odds = logit(scores)[:, None]
    platt = LogisticRegression(C=np.inf).fit(log_odds, truth)
    isotonic = IsotonicRegression(out_of_bounds="clip").fit(scores, truth)
    return {
        "none": lambda window: window,
        "Platt": lambda window: platt.predict_proba(logit(window)[:, None])[:, 1],
        "isotonic": isotonic.predict,
        "beta": reference.probabilities,
    }


def _by_meaning(scores: Floats, meaning: Floats) -> dict[str, float]:
    found = expected_measures(
        meaning, np.ones((1, len(scores))), scores=scores, threshold=THRESHOLD
    )
    return {name: float(values[0]) for name, values in found.items()}


def _told(estimated: EstimatedPerformance | NoEstimate) -> dict[str, Any]:
    if isinstance(estimated, NoEstimate):
        return {"reason": estimated.reason}
    return {
        name: None
        if measure is None
        else [measure.estimate, measure.interval.low, measure.interval.high]
        for name, measure in estimated.measures().items()
    }


@contextmanager
def peer() -> Iterator[Callable[..., list[dict[str, float]]]]:
    """Start NannyML's process; it ends with the block."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [
                str(ENVIRONMENTS / "nannyml" / "bin" / "python"),
                str(HERE / "estimated_performance_worker.py"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=folder,
        )
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(
            *, scores: Floats, truth: npt.NDArray[np.bool_], windows: Floats
        ) -> list[dict[str, float]]:
            before, now = Path(folder) / "before.npz", Path(folder) / "now.npz"
            np.savez(before, scores=scores, truth=truth)
            np.savez(now, scores=windows)
            asked = {"reference": str(before), "windows": str(now), "threshold": THRESHOLD}
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                raise RuntimeError(f"NannyML's process ended with {process.wait()}")
            found: list[dict[str, float]] = json.loads(answer)
            return found

        try:
            yield ask
        finally:
            process.stdin.close()
            process.wait(timeout=600)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", type=int, default=10, help="for each encoder")
    parser.add_argument("--windows", type=int, default=6, help="of each scenario")
    asked = parser.parse_args()
    results = Results("estimated_performance", folder=HERE / "results")
    keys = [f"{encoder}/{number}" for number in range(asked.references) for encoder in ENCODERS]
    if list(results.missing(keys)):
        with peer() as nannyml:
            results.measure(
                keys, lambda key: measure(key, windows=asked.windows, nannyml=nannyml)
            )
    rows = [row for row in results.rows() if row["key"] in keys]
    sys.stdout.write(f"{REFERENCE} scans a reference, {WINDOW} a window\n\n{report(rows)}\n")


if __name__ == "__main__":
    main()

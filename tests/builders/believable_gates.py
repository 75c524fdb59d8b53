"""What gates say of a candidate that passes them: stand-ins, since gates take minutes."""

from __future__ import annotations

from monitor.statistics.performance.proportions import Interval
from retrain.gates.outcome import Gate, GateOutcome, Outcome, all_of


def _outcome(
    name: str,
    estimate: float | None,
    interval: tuple[float, float] | None,
    margin: float | None,
    sentence: str,
    *,
    statistic: str = "difference",
    p_value: float | None = None,
    n: int = 214,
) -> GateOutcome:
    return GateOutcome(
        name=name,
        outcome=Outcome.PASSED,
        statistic=statistic,
        estimate=estimate,
        interval=Interval(low=interval[0], high=interval[1], level=0.95) if interval else None,
        margin=margin,
        p_value=p_value,
        n=n,
        sentence=sentence,
    )


def _integrity_gates() -> list[GateOutcome]:
    return [
        _outcome(
            Gate.PARITY,
            2.1e-6,
            None,
            1e-3,
            "ONNX and torch differ by at most 2.1e-06 on 73 scans.",
            statistic="largest absolute difference",
            n=73,
        ),
        _outcome(
            Gate.PATIENTS,
            0.0,
            None,
            0.0,
            "No patient of the locked sets trained the candidate or its bases.",
            statistic="patients on both sides",
        ),
        _outcome(
            Gate.PROVENANCE,
            0.0,
            None,
            0.0,
            "No label was influenced by an AI.",
            statistic="labels an AI influenced",
        ),
    ]


def first_gates() -> list[GateOutcome]:
    """Return what the gates of a first version said."""
    return [
        _outcome(
            "first_version_auc",
            0.953,
            (0.921, 0.972),
            0.90,
            "AUC 0.953 (95 % interval 0.921 to 0.972; 129 scans): shown to be at least 0.900.",
            statistic="AUC",
            n=129,
        ),
        *_integrity_gates(),
    ]


def repair_gates() -> list[GateOutcome]:
    """Return what the gates of a repair said."""
    drifted, reference = Gate.SUPERIORITY, Gate.NON_INFERIORITY
    return [
        all_of(
            drifted,
            [
                _outcome(
                    f"{drifted}/specificity",
                    0.42,
                    (0.27, 0.55),
                    0.0,
                    "Specificity where it drifted: candidate 92.1 %, champion 50.0 %, "
                    "difference +42.1 points (95 % interval +27.0 to +55.1; 97 scans): "
                    "superior, p < 0.0001 (at most 0.025).",
                    p_value=3e-6,
                    n=97,
                ),
                _outcome(
                    f"{drifted}/sensitivity",
                    -0.016,
                    (-0.081, 0.044),
                    -0.10,
                    "Sensitivity where it drifted: candidate 93.4 %, champion 95.0 %: not "
                    "inferior by a margin of 10.0 points, p = 0.0062 (at most 0.05).",
                    p_value=0.0062,
                    n=97,
                ),
            ],
        ),
        all_of(
            reference,
            [
                _outcome(
                    f"{reference}/{measure}",
                    estimate,
                    (estimate - 0.03, estimate + 0.03),
                    margin,
                    f"{measure.capitalize()} on the reference: not inferior by its margin.",
                    p_value=0.0011,
                    n=129,
                )
                for measure, estimate, margin in (
                    ("sensitivity", -0.008, -0.07),
                    ("specificity", 0.011, -0.12),
                    ("auc", 0.002, -0.03),
                )
            ],
        ),
        *_integrity_gates(),
    ]

"""NannyML's confidence-based estimates in a process of their own.

    python estimated_performance_worker.py

reads one JSON document a line from stdin, {"reference": FILE.npz, "windows": FILE.npz}, and
answers each with one on stdout: for each window its AUC, sensitivity and specificity. Files
hold `scores` [n] or [windows, n] and for the reference `truth` [n]. It runs in the environment
that holds NannyML, and imports nothing of this project.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings

for _pool in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
    os.environ[f"{_pool}_NUM_THREADS"] = "1"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np  # noqa: E402  after the thread limits

METRICS = {"roc_auc": "auc", "recall": "sensitivity", "specificity": "specificity"}


def frame(scores, threshold, truth=None):
    import pandas as pd

    data = {"score": scores, "called": (scores >= threshold).astype(int)}
    if truth is not None:
        data["truth"] = truth.astype(int)
    return pd.DataFrame(data)


def estimates(asked):
    import nannyml

    threshold = asked["threshold"]
    with np.load(asked["reference"], allow_pickle=False) as reference:
        before = frame(reference["scores"], threshold, reference["truth"])
    with np.load(asked["windows"], allow_pickle=False) as windows:
        now = windows["scores"]
    estimator = nannyml.CBPE(
        y_pred_proba="score",
        y_pred="called",
        y_true="truth",
        problem_type="classification_binary",
        metrics=list(METRICS),
        chunk_size=now.shape[1],
    )
    estimator.fit(before)
    table = estimator.estimate(frame(now.ravel(), threshold)).filter(period="analysis").to_df()
    columns = {ours: table[theirs]["value"].tolist() for theirs, ours in METRICS.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def main():
    answers = os.fdopen(os.dup(1), "w")
    # Whatever a library prints must not be taken for an answer.
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(estimates(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

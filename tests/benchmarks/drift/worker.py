"""One drift test in a process of its own: fits a reference, checks windows, says what it took.

    python worker.py TEST

reads one JSON document a line from stdin and answers each with one on stdout:
{"fit": FILE.npy}, {"check": FILE.npy}, {"peak": true}. Times are CPU seconds of this
process, which is held to one thread. It runs in the environment that holds the test, and
imports nothing else of this project.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
import warnings

for _pool in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
    os.environ[f"{_pool}_NUM_THREADS"] = "1"
os.environ["TQDM_DISABLE"] = "1"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np  # noqa: E402  after the thread limits

PERMUTATIONS = int(os.environ.get("PERMUTATIONS", "100"))


def _one_torch_thread():
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return torch


class _Alibi:
    def check(self, window):
        data = self.test.predict(window)["data"]
        return {"p_value": float(data["p_val"]), "score": float(data["distance"])}


class AlibiMMD(_Alibi):
    def fit(self, reference):
        _one_torch_thread()
        from alibi_detect.cd import MMDDrift

        self.test = MMDDrift(
            reference, backend="pytorch", n_permutations=PERMUTATIONS, device="cpu"
        )

    def check(self, window):
        answer = super().check(window)
        # The bandwidth that it chose, so that others can take the same.
        sigma = self.test._detector.kernel.sigma.detach().numpy()
        return {**answer, "sigma": float(np.abs(sigma).ravel()[0])}


class AlibiLSDD(_Alibi):
    def fit(self, reference):
        _one_torch_thread()
        from alibi_detect.cd import LSDDDrift

        self.test = LSDDDrift(
            reference, backend="pytorch", n_permutations=PERMUTATIONS, device="cpu"
        )


class AlibiKS:
    def fit(self, reference):
        from alibi_detect.cd import KSDrift

        self.test = KSDrift(reference)

    def check(self, window):
        p_values = self.test.predict(window, drift_type="batch")["data"]["p_val"]
        least = float(np.min(p_values))
        return {
            "p_value": min(1.0, least * len(p_values)),
            "score": -np.log(max(least, 1e-300)),
        }


class AlibiClassifier(_Alibi):
    def fit(self, reference):
        from alibi_detect.cd import ClassifierDrift
        from sklearn.linear_model import LogisticRegression

        self.test = ClassifierDrift(
            reference,
            LogisticRegression(max_iter=200, C=0.01),
            backend="sklearn",
            preds_type="probs",
            n_folds=3,
            binarize_preds=False,
        )


class TorchdriftMMD:
    def fit(self, reference):
        self.torch = _one_torch_thread()
        from torchdrift.detectors import KernelMMDDriftDetector

        self.test = KernelMMDDriftDetector(return_p_value=True, n_perm=PERMUTATIONS)
        self.reference = self.torch.tensor(reference)
        self.test.fit(self.reference)

    def check(self, window):
        from torchdrift.detectors.mmd import kernel_mmd

        tensor = self.torch.tensor(window)
        p_value = float(self.test(tensor))
        return {
            "p_value": p_value,
            "score": float(kernel_mmd(self.reference, tensor, n_perm=None)),
        }


class FrourosMMD:
    def fit(self, reference):
        from functools import partial

        from frouros.callbacks import PermutationTestDistanceBased
        from frouros.detectors.data_drift import MMD
        from frouros.utils.kernels import rbf_kernel
        from scipy.spatial.distance import pdist

        # Its own default, a bandwidth of 1, sees nothing at the scale of these embeddings.
        median = float(np.median(pdist(reference[:500])))

        permute = PermutationTestDistanceBased(
            num_permutations=PERMUTATIONS, random_state=0, num_jobs=1, name="permutation"
        )
        self.test = MMD(kernel=partial(rbf_kernel, sigma=median), callbacks=[permute])
        self.test.fit(X=reference)

    def check(self, window):
        distance, logs = self.test.compare(X=window)
        return {
            "p_value": float(logs["permutation"]["p_value"]),
            "score": float(distance.distance),
        }


def _frame(array):
    import pandas as pd

    return pd.DataFrame(array, columns=[f"e{i}" for i in range(array.shape[1])])


class NannyMLPCA:
    def fit(self, reference):
        import nannyml

        self.nannyml, self.reference, self.by_size = nannyml, _frame(reference), {}

    def check(self, window):
        size = len(window)
        if size not in self.by_size:
            calculator = self.nannyml.DataReconstructionDriftCalculator(
                column_names=list(self.reference.columns), chunk_size=size
            )
            calculator.fit(self.reference)
            self.by_size[size] = calculator
        result = self.by_size[size].calculate(_frame(window))
        rows = result.filter(period="analysis").to_df()["reconstruction_error"]
        error = float(rows["value"].iloc[0])
        middle = 0.5 * (
            float(rows["upper_threshold"].iloc[0]) + float(rows["lower_threshold"].iloc[0])
        )
        alert = bool(rows["alert"].iloc[0])
        return {"p_value": 0.0 if alert else 1.0, "score": abs(error - middle)}


class _Evidently:
    def fit(self, reference):
        from evidently.legacy.metrics.data_drift import embedding_drift_methods as methods

        self.method, self.reference = self.chosen(methods), _frame(reference)

    def check(self, window):
        score, drifted, _ = self.method(_frame(window), self.reference)
        return {"p_value": 0.0 if drifted else 1.0, "score": float(score)}


class EvidentlyModel(_Evidently):
    def chosen(self, methods):
        return methods.model(threshold=0.55, bootstrap=False)


class EvidentlyDistance(_Evidently):
    def chosen(self, methods):
        return methods.distance(dist="euclidean", bootstrap=False)


class EvidentlyRatio(_Evidently):
    def chosen(self, methods):
        return methods.ratio(component_stattest="ks", component_stattest_threshold=0.05)


class EvidentlyMMD(_Evidently):
    def chosen(self, methods):
        return methods.mmd(threshold=0.015, bootstrap=None)


class Portfolio:
    def fit(self, reference):
        from monitor.profiles import ReferenceProfile

        self.profile = ReferenceProfile.fit(reference)

    def check(self, window):
        return {"p_value": self.profile.check(window).p_value, "score": 0.0}


class ExactMMD:
    def fit(self, reference):
        self.reference = reference

    def check(self, window):
        from monitor.statistics.exact.kernels import mmd_test

        result = mmd_test(self.reference, window, permutations=PERMUTATIONS, seed=0)
        return {"p_value": result.p_value, "score": result.statistic}


TESTS = {
    "alibi-mmd": AlibiMMD,
    "alibi-lsdd": AlibiLSDD,
    "alibi-ks": AlibiKS,
    "alibi-classifier": AlibiClassifier,
    "torchdrift-mmd": TorchdriftMMD,
    "frouros-mmd": FrourosMMD,
    "nannyml-pca": NannyMLPCA,
    "evidently-model": EvidentlyModel,
    "evidently-distance": EvidentlyDistance,
    "evidently-ratio": EvidentlyRatio,
    "evidently-mmd": EvidentlyMMD,
    "portfolio": Portfolio,
    "exact-mmd": ExactMMD,
}


def _cpu_seconds():
    """Return the CPU time of this process and of those it has ended."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def main():
    answers = os.fdopen(os.dup(1), "w")
    # Whatever a library prints must not be taken for an answer.
    os.dup2(2, 1)
    test = TESTS[sys.argv[1]]()
    for line in sys.stdin:
        asked = json.loads(line)
        if "peak" in asked:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            answer = {"peak_gb": peak}
        else:
            array = np.load(asked.get("fit") or asked["check"], allow_pickle=False)
            before = _cpu_seconds()
            answer = (test.fit(array) or {}) if "fit" in asked else test.check(array)
            answer["seconds"] = _cpu_seconds() - before
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

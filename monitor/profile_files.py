"""How a profile lies on disk: safetensors for arrays, JSON for everything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitor.statistics.design import Design
from monitor.statistics.null import NullTable
from monitor.statistics.portfolio import Portfolio
from monitor.statistics.two_sample import Dependence
from monitor.statistics.whitening import Eigenbasis
from registry.errors import BadInputError, IntegrityError, NotFoundError

_TENSORS = "profile.safetensors"
_FACTS = "profile.json"
_FORMAT = 1


def write_profile(directory: Path, portfolio: Portfolio, facts: Mapping[str, Any]) -> None:
    """Write a portfolio and further facts (JSON values); the same ones give the same bytes."""
    from safetensors.numpy import save

    basis, design, null = portfolio.basis, portfolio.design, portfolio.null
    tensors = save(
        {
            "basis.mean": basis.mean,
            "basis.directions": basis.directions,
            "basis.variances": basis.variances,
            "design.spectrum": design.spectrum,
            "design.frequencies": design.frequencies,
            "scores": portfolio.scores,
            "dependence.correlations": portfolio.dependence.correlations,
            "centre": portfolio.centre,
            "traces": portfolio.traces,
            "inverse_sizes": portfolio.inverse_sizes,
            "null.sizes": null.sizes,
            "null.means": null.means,
            "null.deviations": null.deviations,
            "null.skewnesses": null.skewnesses,
            "null.evidence": null.evidence,
            "forms": portfolio.forms,
        }
    )
    document = {
        **facts,
        "format": _FORMAT,
        "unit": basis.unit,
        "directions": list(design.directions),
        "described": design.described,
        "ridges": list(design.ridges),
        "bandwidths": list(design.bandwidths),
        "patients": portfolio.patients,
        "tensors": hashlib.sha256(tensors).hexdigest(),
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _TENSORS).write_bytes(tensors)
    text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False)
    (directory / _FACTS).write_text(text + "\n", encoding="utf-8")


def read_profile(directory: Path) -> tuple[Portfolio, dict[str, Any]]:
    """Read what `write_profile` wrote.

    Raises
    ------
    NotFoundError
        If a file is missing.
    BadInputError
        If the files are not a profile of this format.
    IntegrityError
        If the tensors are not those that were written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        text = (directory / _FACTS).read_text(encoding="utf-8")
        data = (directory / _TENSORS).read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{directory} holds no profile: {error.filename} is missing"
        ) from error
    try:
        facts: dict[str, Any] = json.loads(text)
        version, digest = facts["format"], facts["tensors"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{directory / _FACTS} does not describe a profile") from error
    if version != _FORMAT:
        raise BadInputError(
            f"{directory} holds a profile of format {version}, and this version reads format "
            f"{_FORMAT}: build the reference again"
        )
    if hashlib.sha256(data).hexdigest() != digest:
        raise IntegrityError(
            f"{directory / _TENSORS} is not the file that {_FACTS} was written with: "
            "restore both from one backup, or build the reference again"
        )
    try:
        tensors = load(data)
        portfolio = Portfolio(
            basis=Eigenbasis(
                unit=float(facts["unit"]),
                mean=tensors["basis.mean"],
                directions=tensors["basis.directions"],
                variances=tensors["basis.variances"],
            ),
            design=Design(
                spectrum=tensors["design.spectrum"],
                directions=tuple(facts["directions"]),
                described=int(facts["described"]),
                ridges=tuple(facts["ridges"]),
                frequencies=tensors["design.frequencies"],
                bandwidths=tuple(facts["bandwidths"]),
            ),
            scores=tensors["scores"],
            dependence=Dependence(correlations=tensors["dependence.correlations"]),
            centre=tensors["centre"],
            traces=tensors["traces"],
            inverse_sizes=tensors["inverse_sizes"],
            patients=int(facts["patients"]),
            null=NullTable(
                sizes=tensors["null.sizes"],
                means=tensors["null.means"],
                deviations=tensors["null.deviations"],
                skewnesses=tensors["null.skewnesses"],
                evidence=tensors["null.evidence"],
            ),
            forms=tensors["forms"],
        )
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise BadInputError(f"{directory} does not hold a whole profile") from error
    return portfolio, facts

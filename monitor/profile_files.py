"""How a profile lies on disk: safetensors for arrays, JSON for everything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitor.statistics.coordinates import Frame
from monitor.statistics.design import Design, Fit
from monitor.statistics.members.occupancy import Cells
from monitor.statistics.null import NullTable
from monitor.statistics.portfolio import Portfolio
from monitor.statistics.subspace import Subspace
from monitor.statistics.two_sample import Dependence
from monitor.statistics.weeks import WeekEffects
from monitor.statistics.whitening import Eigenbasis
from registry.errors import BadInputError, IntegrityError, NotFoundError

_TENSORS = "profile.safetensors"
_FACTS = "profile.json"
_FORMAT = 3


def write_profile(directory: Path, portfolio: Portfolio, facts: Mapping[str, Any]) -> None:
    """Write a portfolio and further facts (JSON values); the same ones give the same bytes."""
    from safetensors.numpy import save

    weeks = portfolio.weeks
    design, fit, null = portfolio.design, portfolio.fit, portfolio.null
    basis, subspace = fit.frame.basis, fit.frame.subspace
    tensors = save(
        {
            "basis.mean": basis.mean,
            "basis.directions": basis.directions,
            "basis.variances": basis.variances,
            "design.spectrum": design.spectrum,
            "design.frequencies": design.frequencies,
            "design.leading_frequencies": design.leading_frequencies,
            "subspace.mean": subspace.mean,
            "subspace.directions": subspace.directions,
            "subspace.deviations": subspace.deviations,
            "fit.scores": fit.scores,
            "fit.residuals": fit.residuals,
            "fit.landmarks": fit.landmarks,
            "fit.novelties": fit.novelties,
            "cells.precisions": fit.cells.precisions,
            "cells.centres": fit.cells.centres,
            "cells.shares": fit.cells.shares,
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
            **(
                {}
                if weeks is None
                else {
                    "weeks.ratios": weeks.ratios,
                    "weeks.feature_ratios": weeks.feature_ratios,
                    "weeks.inflations": weeks.inflations,
                }
            ),
        }
    )
    document = {
        **facts,
        "format": _FORMAT,
        "unit": basis.unit,
        "directions": list(design.directions),
        "described": design.described,
        "ridges": list(design.ridges),
        "distance": design.distance,
        "leading_distance": design.leading_distance,
        "leading": design.leading,
        "cells": design.cells,
        "inside": subspace.inside,
        "patients": portfolio.patients,
        "null_patients": null.patients,
        "weeks": None if weeks is None else weeks.weeks,
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
            design=Design(
                spectrum=tensors["design.spectrum"],
                directions=tuple(facts["directions"]),
                described=int(facts["described"]),
                ridges=tuple(facts["ridges"]),
                frequencies=tensors["design.frequencies"],
                distance=float(facts["distance"]),
                leading_frequencies=tensors["design.leading_frequencies"],
                leading_distance=float(facts["leading_distance"]),
                leading=int(facts["leading"]),
                cells=int(facts["cells"]),
            ),
            fit=_read_fit(facts, tensors),
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
                patients=int(facts["null_patients"]),
            ),
            forms=tensors["forms"],
            weeks=None
            if facts["weeks"] is None
            else WeekEffects(
                weeks=int(facts["weeks"]),
                ratios=tensors["weeks.ratios"],
                feature_ratios=tensors["weeks.feature_ratios"],
                inflations=tensors["weeks.inflations"],
            ),
        )
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise BadInputError(f"{directory} does not hold a whole profile") from error
    return portfolio, facts


def _read_fit(facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Fit:
    return Fit(
        frame=Frame(
            basis=Eigenbasis(
                unit=float(facts["unit"]),
                mean=tensors["basis.mean"],
                directions=tensors["basis.directions"],
                variances=tensors["basis.variances"],
            ),
            subspace=Subspace(
                mean=tensors["subspace.mean"],
                directions=tensors["subspace.directions"],
                deviations=tensors["subspace.deviations"],
                inside=int(facts["inside"]),
            ),
        ),
        scores=tensors["fit.scores"],
        residuals=tensors["fit.residuals"],
        landmarks=tensors["fit.landmarks"],
        novelties=tensors["fit.novelties"],
        cells=Cells(
            precisions=tensors["cells.precisions"],
            centres=tensors["cells.centres"],
            shares=tensors["cells.shares"],
        ),
    )

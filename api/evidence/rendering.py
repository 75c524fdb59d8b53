"""The pack as HTML, and that as PDF."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from PIL import ImageFile

from api.evidence import figures
from api.evidence.gathering import Evidence
from api.pages import wording
from api.pages.rendering import STATIC, release
from registry.errors import SetupError
from retrain.watching.showing import then

_TEMPLATES = Path(__file__).parent / "templates"
_PROOFS = {
    "password": "password",
    "token": "token of their own",
    "operating system": "user of the machine",
}
_OUTCOMES = {"passed": "passed", "failed": "failed", "not_evaluable": "not evaluable"}


def as_html(evidence: Evidence) -> str:
    """Return the pack as one HTML document that needs no other file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        moment=wording.moment,
        instant=lambda text: wording.moment(datetime.fromisoformat(text)),
        count=wording.count,
        quantity=wording.quantity,
        p_value=wording.p_value,
        sentence=wording.sentence,
        outcome=_OUTCOMES.__getitem__,
        share=wording.percent,
        then=then,
        proof=lambda proof: _PROOFS.get(proof, "not kept"),
    )
    return environment.get_template("pack.html").render(
        evidence=evidence,
        summary=summary(evidence),
        effects=figures.effects(evidence),
        areas=figures.areas(evidence),
        comparisons=figures.comparisons(evidence),
        release=release(),
    )


def summary(evidence: Evidence) -> list[tuple[str, str]]:
    """Return what changed, why, on what evidence and who signed: a sentence each."""
    run, plan = evidence.run, evidence.plan
    changed = (
        f"{evidence.candidate_name} was made from {evidence.base} by {run.strategy}"
        if evidence.candidate_name
        else f"nothing yet: run {run.id} has made no candidate"
    )
    if evidence.champion_before:
        changed += f", to replace {evidence.champion_before}"
    return [
        ("What changed", f"{changed}. The run is {run.state}: {run.note}."),
        ("Why", _why(evidence)),
        ("On what evidence", _evidence(evidence)),
        ("Who signed", _signed(evidence)),
        (
            "On whose authority",
            f"{plan.plan.authority.value}"
            + (f", number {plan.plan.authority_number}" if plan.plan.authority_number else "")
            + f", by change plan {plan.number} of {run.model} (digest {plan.digest}).",
        ),
    ]


def _why(evidence: Evidence) -> str:
    episode = evidence.episode
    if episode is None and evidence.champion_before is not None:
        return "No episode stands behind it."
    if episode is None:
        return "It makes the model's first version."
    where = episode.subgroup or "all scans"
    return (
        f"Episode {episode.id}: since {wording.moment(episode.onset)} scans of {where} differ from "
        f"the reference. Cause: {episode.cause}. Impact: {episode.impact}."
    )


def _evidence(evidence: Evidence) -> str:
    if not evidence.gates:
        return "No gate has judged a candidate of this run."
    counts = {
        word: sum(gate.outcome == value for gate in evidence.gates)
        for value, word in _OUTCOMES.items()
    }
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    locked = [row for purpose, row in evidence.datasets if purpose.startswith("locked")]
    scans = sum(row.scans for row in locked)
    patients = sum(row.patients for row in locked)
    return (
        f"{len(evidence.gates)} gates ({said}) on {wording.count(scans)} locked scans of "
        f"{wording.count(patients)} patients whom no training saw.{_in_shadow(evidence)}"
    )


def _in_shadow(evidence: Evidence) -> str:
    shadow = evidence.shadow
    if shadow is None:
        return ""
    read = (
        f" In shadow ({shadow.span}) it read {wording.count(shadow.by_both)} scans with the "
        "champion"
    )
    return (
        f"{read}, and called {shadow.lines[0].estimate} otherwise."
        if shadow.lines
        else f"{read}."
    )


def _signed(evidence: Evidence) -> str:
    if not evidence.signatures:
        return "Nobody has signed."
    return "; ".join(
        f"{one['printed_name']} {one['meaning']} it: {one['reason']}"
        for one in evidence.signatures
    )


def as_pdf(html: str) -> bytes:
    """Return the pack as PDF.

    Raises
    ------
    SetupError
        If WeasyPrint, or a library of the system that it needs, is not installed.
    """
    tolerant = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        import weasyprint
    except (ImportError, OSError) as error:
        raise SetupError(
            "a PDF needs the extra `pdf` (WeasyPrint) and Debian's libpango-1.0-0, "
            "libpangoft2-1.0-0 and libharfbuzz-subset0: install them, or take --html-only"
        ) from error
    finally:
        # Its import has Pillow take half an image for a whole one, in all of this process:
        # a scan that is damaged would be read as if it were not.
        ImageFile.LOAD_TRUNCATED_IMAGES = tolerant
    document = weasyprint.HTML(string=html, base_url=str(STATIC), url_fetcher=_shipped_only)
    pdf: bytes = document.write_pdf()
    return pdf


def _shipped_only(url: str) -> dict[str, Any]:
    """Refuse every address: a pack refers to nothing outside of itself."""
    raise ValueError(f"an evidence pack refers to nothing outside of itself: {url}")

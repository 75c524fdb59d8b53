"""How a run's candidate read beside the champion, as the run's page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from api.pages import wording
from retrain.shadow.ending import shadow_record, waits_for
from retrain.states import RunState
from retrain.tables import RunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowLine:
    """One share of scans."""

    name: str
    estimate: str
    interval: str
    of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPanel:
    """What candidate and champion said of the same scans."""

    #: while it lasts
    going_on: bool
    span: str
    by_both: int
    by_champion: int
    patients: int
    #: mean absolute difference of probabilities; None while both read nothing
    mean_difference: str | None
    lines: tuple[ShadowLine, ...]
    ai_influenced: int
    #: labelled scans that both read
    labelled: int
    #: what its end waits for, while it lasts
    waits_for: tuple[str, ...]


def shadow_panel(session: Session, run: RunRow, *, now: datetime) -> ShadowPanel | None:
    """Return a run's shadow, or None where it never was in one."""
    record = shadow_record(session, run, at=now)
    if record is None:
        return None
    found = record["disagreement"]
    since, until = (datetime.fromisoformat(record[key]) for key in ("since", "until"))
    return ShadowPanel(
        going_on=run.state == RunState.SHADOW,
        span=f"{wording.moment(since)} to {wording.moment(until)}",
        by_both=record["by_both"],
        by_champion=record["by_champion"],
        patients=found["patients"] if found else 0,
        mean_difference=wording.fraction(found["mean_difference"]) if found else None,
        lines=_lines(record),
        ai_influenced=record["ai_influenced"],
        labelled=record["labelled"],
        waits_for=tuple(waits_for(session, run, at=now))
        if run.state == RunState.SHADOW
        else (),
    )


def _lines(record: Mapping[str, Any]) -> tuple[ShadowLine, ...]:
    found = record["disagreement"]
    if found is None:
        return ()
    shares = {
        "Called otherwise by the candidate": found["different"],
        "Positive by the candidate alone": found["newly_positive"],
        "Positive by the champion alone": found["newly_negative"],
        **{
            f"{measure.capitalize()} of the {who}": record[who][measure]
            for measure in ("sensitivity", "specificity")
            for who in ("champion", "candidate")
        },
    }
    return tuple(_line(name, share) for name, share in shares.items() if share is not None)


def _line(name: str, share: Mapping[str, Any]) -> ShadowLine:
    return ShadowLine(
        name=name,
        estimate=f"{share['estimate']:.1%}",
        interval=f"{share['low']:.1%} to {share['high']:.1%}",
        of=f"{share['count']:g} of {share['scans']}",
    )

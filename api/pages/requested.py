"""The labels that a run asked for, as its page shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from api.pages import wording
from monitor.episodes.episodes import require_episode
from monitor.requests.listing import describe_request
from monitor.requests.making import all_requests
from retrain import label_requesting
from retrain.states import RunState
from retrain.tables import RunRow

#: What a part is for, in words.
_FOR = {
    "gate": "Judges (probability sample)",
    "selection": "Chooses, measures the impact (equal chances)",
    "training": "Trains (covers the embeddings)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLine:
    """How far one part is."""

    name: str
    patients: int
    scans: int
    labelled: int
    with_finding: int
    not_read: int
    #: what became of its scans
    became: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumLine:
    """One stratum of the sample that judges."""

    name: str
    patients: int
    drawn: int
    chance: str
    read: int
    weight: str
    reserve: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPanel:
    """A run's newest request."""

    id: int
    state: str
    ended: str | None
    scans: int
    resolved: int
    #: 0 to 100
    percent: int
    frame: str
    arithmetic: tuple[str, ...]
    parts: tuple[PartLine, ...]
    strata: tuple[StratumLine, ...]
    #: on labels that nobody requested, while the run waits
    outside: tuple[str, ...]


def request_panel(session: Session, run: RunRow) -> RequestPanel | None:
    """Return a run's newest request, None where it made none."""
    rows = all_requests(session, run.id)
    if not rows or run.episode is None:
        return None
    document = describe_request(session, rows[0])
    outside: list[str] = []
    if run.state == RunState.AWAITING_LABELS:
        # Every scan of the shift is looked at, which a page that looks again must not do.
        episode = require_episode(session, run.episode)
        outside = label_requesting.outside_labels(session, run, episode).in_words()
    resolved = document["scans"] - document["waiting"]
    return RequestPanel(
        id=document["request"],
        state=document["state"],
        ended=document["ended_reason"],
        scans=document["scans"],
        resolved=resolved,
        percent=round(100 * resolved / max(1, document["scans"])),
        frame=_frame(document["frame"]),
        arithmetic=tuple(document["arithmetic"]["sentences"]),
        parts=tuple(_part(one) for one in document["parts"]),
        strata=tuple(_stratum(one) for one in document["strata"]),
        outside=tuple(outside),
    )


def _frame(frame: dict[str, Any]) -> str:
    text = (
        f"Drawn from {wording.counted(frame['patients'], 'patient')} with "
        f"{wording.counted(frame['scans'], 'scan')}."
    )
    left_out = [f"{count} left out: {why}." for why, count in frame["left_out"].items()]
    return " ".join([text, *left_out])


def _part(one: dict[str, Any]) -> PartLine:
    return PartLine(
        name=_FOR[one["part"]],
        patients=one["patients"],
        scans=one["scans"],
        labelled=one["patients_labelled"],
        with_finding=one["with_finding"],
        not_read=one["patients_not_read"],
        became=", ".join(f"{count} {what}" for what, count in one["became"].items() if count),
    )


def _stratum(one: dict[str, Any]) -> StratumLine:
    return StratumLine(
        name=one["name"],
        patients=one["patients"],
        drawn=one["drawn"],
        chance=f"{one['chance']:.3f}",
        read=one["read"],
        weight=f"{one['weight']:.2f}" if one["weight"] else "–",
        reserve=one["reserve"],
    )

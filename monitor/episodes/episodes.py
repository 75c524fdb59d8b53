"""Episodes: verdicts that persisted, from opening to closing; what a person is alerted to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.episodes.causes import Cause
from monitor.episodes.episode_evidence import AlarmEvidence, KnownOnset
from monitor.episodes.estimating import ImpactEstimate, estimate_impact
from monitor.episodes.further_shifts import PlacedShift
from monitor.episodes.recovery import recovery
from monitor.evaluation import Evaluation
from monitor.references import EncoderRole
from monitor.subgroups import Subgroup
from monitor.tables import EpisodeRow
from monitor.windows import Window
from registry import ledger, serving
from registry.canonical import Json
from registry.errors import ConflictError, NotFoundError
from registry.versions import ref

#: What evidence says of a shift's size, by the scans of one place.
_SIZE = ("effect", "ordinary_effect", "smallest_effect", "detectors", "encoder")


class EpisodeState(StrEnum):
    OPEN = "open"
    #: the shift is still there, and a version or reference that knows it is in use
    ACCEPTED = "accepted"
    CLOSED = "closed"


class Impact(StrEnum):
    """Whether a shift matters; a judgement apart from its cause."""

    NONE_SHOWN = "none shown"
    SUSPECTED = "suspected"
    MEASURED = "measured"


def require_episode(session: Session, episode: int) -> EpisodeRow:
    """Return an episode.

    Raises
    ------
    NotFoundError
    """
    row = session.get(EpisodeRow, episode)
    if row is None:
        raise NotFoundError(f"there is no episode {episode}: see `driftward episode list`")
    return row


def open_episodes(session: Session, monitor: str) -> list[EpisodeRow]:
    """Return a monitor's open episodes, oldest first."""
    return list(
        session.scalars(
            select(EpisodeRow)
            .where(EpisodeRow.monitor == monitor, EpisodeRow.state == EpisodeState.OPEN)
            .order_by(EpisodeRow.id)
        )
    )


def open_episode_ids(session: Session, monitor: str) -> list[int]:
    """Return which episodes of a monitor are open, without what is known of them."""
    return list(
        session.scalars(
            select(EpisodeRow.id).where(
                EpisodeRow.monitor == monitor, EpisodeRow.state == EpisodeState.OPEN
            )
        )
    )


def all_episodes(session: Session, monitor: str | None = None) -> list[EpisodeRow]:
    """Return episodes, newest first."""
    query = select(EpisodeRow).order_by(EpisodeRow.id.desc())
    if monitor is not None:
        query = query.where(EpisodeRow.monitor == monitor)
    return list(session.scalars(query))


def record_alarm(
    session: Session,
    evaluation: Evaluation,
    found: AlarmEvidence,
    *,
    actor: str,
    at: datetime,
    shift: PlacedShift | None = None,
) -> EpisodeRow:
    """Open an episode for an alarm, or bring the one that it belongs to up to date.

    Parameters
    ----------
    shift : which of several, where the alarm's place does not say it
    """
    name = evaluation.monitor.name
    if shift is None:
        row = episode_of(open_episodes(session, name), found.diagnosis.subgroup)
        p_value = evaluation.p_value if evaluation.p_value is not None else 1.0
    else:
        row = session.get_one(EpisodeRow, shift.episode) if shift.episode else None
        p_value = shift.p_value
    kind = "episode.opened" if row is None else "episode.updated"
    if row is None:
        row = new_episode(name, onset=found.onset, subgroup=found.diagnosis.subgroup, at=at)
    conclude(session, row, evaluation, found, p_value=p_value)
    session.add(row)
    session.flush()
    record_change(
        session,
        row,
        kind,
        {
            "monitor": row.monitor,
            "window": str(evaluation.window),
            "p_value": row.p_value,
            "cause": row.cause,
            "subgroup": row.subgroup,
            "impact": row.impact,
        },
        actor=actor,
        at=at,
    )
    return row


def new_episode(
    monitor: str, *, onset: datetime, subgroup: Subgroup | None, at: datetime
) -> EpisodeRow:
    """Return an open episode of which nothing is concluded yet."""
    return EpisodeRow(
        monitor=monitor,
        state=EpisodeState.OPEN.value,
        opened_at=at,
        onset=onset,
        subgroup=str(subgroup) if subgroup else None,
        impact=Impact.NONE_SHOWN.value,
        evidence={},
    )


def conclude(
    session: Session,
    row: EpisodeRow,
    evaluation: Evaluation,
    found: AlarmEvidence,
    *,
    p_value: float,
) -> None:
    """Write into an episode what an alarm's evidence says.

    A window that by itself is no more unlike the reference than one in some hundred describes
    nothing: a shift's rule of two windows in a row takes in the one after its end, too.
    """
    if _shows_little(row, evaluation, found):
        document = {name: found.document[name] for name in ("window", "alpha", "not_judged")}
    else:
        document = _described(row, found)
    row.p_value = p_value
    document["place_smallest_effect"] = _place_sensitivity(row, evaluation)
    row.evidence = {**row.evidence, **document}
    _estimate(session, row, evaluation)


def _shows_little(row: EpisodeRow, evaluation: Evaluation, found: AlarmEvidence) -> bool:
    """Return whether a window has described an episode, and this one alone would be no alarm."""
    by_windows = {row.evidence.get("alpha"), found.document["alpha"]}
    return None not in by_windows and found.verdict.alarm_p_value > evaluation.alpha


def _described(row: EpisodeRow, found: AlarmEvidence) -> dict[str, Json]:
    """Describe an episode by an alarm's evidence, and return what of it is kept as a document.

    A cause that a window named stays where a later one names none: the last window of a shift
    is of both sides of its end, and whoever reads a closed episode asks what it was. So does a
    size that was measured where the shift is, where a later alarm is of other scans. The onset
    stays, unless the scans of a place that was not known tell it more surely. The place of
    what a stream saw first is the one that was found now, while a few scans have told it and
    nothing hangs on it yet; where two windows in a row say, it is the one that they name.
    """
    document = dict(found.document)
    place = found.diagnosis.subgroup
    named = str(place) if place else None
    by_window = found.document["alpha"] is not None
    document["place_named"] = named if by_window else None
    placed = by_window and _place_by_windows(row, place)
    if "streams" in row.evidence and not placed:
        document["place_settled"] = settled = _place(row, found)
        placed = not settled
    if placed and found.dated.by_place and _is_surer(row, found.dated):
        row.onset, document["dated_by_place"] = found.onset, True
    elif "onset_interval" in row.evidence:
        document["onset_interval"] = row.evidence["onset_interval"]
    document |= _places(row, named, found.document["place"])
    if _names_less(row, found):
        for told in ("diagnosis", "pattern", "metadata"):
            document.pop(told, None)
    else:
        row.cause = found.diagnosis.cause.value
    if _measures_elsewhere(row, named):
        for told in _SIZE:
            document.pop(told, None)
    else:
        row.effect = found.verdict.effect.value
        row.heaviest = list(found.heaviest)
    return document


def close_recovered(
    session: Session, evaluation: Evaluation, *, actor: str, at: datetime
) -> list[EpisodeRow]:
    """Close the open episodes whose shift is gone, and return them."""
    closed = []
    for row in open_episodes(session, evaluation.monitor.name):
        found = recovery(session, row, evaluation)
        if found.recovered:
            end(session, row, EpisodeState.CLOSED, reason=found.reason, actor=actor, at=at)
            closed.append(row)
    return closed


def episode_of(rows: Sequence[EpisodeRow], place: Subgroup | None) -> EpisodeRow | None:
    """Return the open episode that an alarm at a place belongs to.

    One whose place holds it, or is held by it; places apart from each other are two shifts.
    """
    for row in rows:
        if row.subgroup is None or place is None:
            return row
        known = Subgroup.parse(row.subgroup)
        if place.within(known) or known.within(place) or not _apart(known, place):
            return row
    return None


def _apart(one: Subgroup, other: Subgroup) -> bool:
    """Return whether no scan can belong to both: they differ in an attribute of both."""
    values = dict(one.terms)
    return any(
        attribute in values and values[attribute] != value for attribute, value in other.terms
    )


def set_impact(
    session: Session,
    row: EpisodeRow,
    impact: Impact,
    *,
    evidence: dict[str, Json],
    actor: str,
    at: datetime,
) -> None:
    """Record what labels say of an episode's impact."""
    row.impact = impact.value
    row.evidence = {**row.evidence, "impact": evidence}
    facts = {"impact": impact.value, **evidence}
    record_change(session, row, "episode.impact", facts, actor=actor, at=at)


def end(
    session: Session,
    row: EpisodeRow,
    state: EpisodeState,
    *,
    reason: str,
    actor: str,
    at: datetime,
) -> None:
    """Accept or close an open episode.

    Raises
    ------
    ConflictError
        If it has ended already.
    """
    if row.state != EpisodeState.OPEN:
        raise ConflictError(f"episode {row.id} is {row.state} already: {row.closed_reason}")
    row.state, row.closed_at, row.closed_reason = state.value, at, reason
    kind = f"episode.{state.value}"
    record_change(session, row, kind, {"reason": reason}, actor=actor, at=at)


def record_change(
    session: Session,
    row: EpisodeRow,
    kind: str,
    facts: dict[str, Json],
    *,
    actor: str,
    at: datetime,
) -> None:
    """Enter a change of an episode into the ledger, which seals the episode as it is now."""
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind=kind,
        subject=f"episode {row.id}",
        facts=facts,
        seals=[row],
    )


def _measures_elsewhere(row: EpisodeRow, named: str | None) -> bool:
    """Return whether an alarm is of other scans than an episode's place, which was measured."""
    measured = row.evidence.get("effect") is not None and row.subgroup is not None
    return measured and named != row.subgroup


def _names_less(row: EpisodeRow, found: AlarmEvidence) -> bool:
    """Return whether evidence names no cause, and a window has named an episode's."""
    named = row.cause not in {None, Cause.UNKNOWN}
    by_window = row.evidence.get("alpha") is not None
    return named and by_window and found.diagnosis.cause is Cause.UNKNOWN


def _place_by_windows(row: EpisodeRow, place: Subgroup | None) -> bool:
    """Place an episode where two windows in a row do; return whether that is elsewhere.

    One that has no place, or one that cuts across theirs: few scans at one site may show in
    those of one sex first. A place within it, or around it, moves nothing, as a restriction may
    hang on it. One window that names a place may do so by chance, where all scans are shifted.
    """
    if place is None or row.evidence.get("place_named") != str(place):
        return False
    known = Subgroup.parse(row.subgroup) if row.subgroup else None
    if known is not None and (
        place.within(known) or known.within(place) or _apart(known, place)
    ):
        return False
    row.subgroup = str(place)
    return True


def _place(row: EpisodeRow, found: AlarmEvidence) -> bool:
    """Place an episode that a stream opened anew, unless its place is settled.

    It is once a cause was named with it, on which a restriction may hang, or a window
    confirmed it. Until then more scans tell it better: of a scanner with too few of them, the
    model was the smallest subgroup that could be tested. Returns whether it was settled.
    """
    place = found.diagnosis.subgroup
    settled = (
        row.evidence.get("place_settled", False)
        or row.evidence.get("alpha") is not None
        or row.cause != Cause.UNKNOWN
    )
    by_window = found.document["alpha"] is not None
    if place is not None and (row.subgroup is None or not settled):
        row.subgroup = str(place)
    elif place is None and not settled and not by_window:
        row.subgroup = None
    return bool(settled)


def _places(row: EpisodeRow, named: str | None, now: Json) -> dict[str, Json]:
    """Return how an episode's place is known, and what was found now where that is another."""
    if row.subgroup == named or "place" not in row.evidence:
        return {"place": now, "place_now": None}
    return {"place": row.evidence["place"], "place_now": now}


def _is_surer(row: EpisodeRow, dated: KnownOnset) -> bool:
    """Return whether a place's scans date an episode more surely than it is dated so far.

    What they have dated, they date anew: there are more of them now.
    """
    low, high = map(datetime.fromisoformat, row.evidence["onset_interval"])
    return bool(row.evidence.get("dated_by_place")) or dated.high - dated.low < high - low


def _place_sensitivity(row: EpisodeRow, evaluation: Evaluation) -> float | None:
    """Return the smallest effect that the scans of an episode's place could have shown.

    For every reference; the one before where these scans were too few to be tested now.
    """
    if row.subgroup is None:
        return None
    found = [
        part.verdict.smallest_effect
        for item in evaluation.deciding
        for part in item.subgroups
        if str(part.subgroup) == row.subgroup
    ]
    before: float | None = row.evidence.get("place_smallest_effect")
    return max(found, default=before)


def _estimate(session: Session, row: EpisodeRow, evaluation: Evaluation) -> None:
    """Estimate what a shift does to results; labels, once they are there, say it better."""
    estimate = estimate_impact(
        session,
        evaluation.monitor,
        cause=Cause(row.cause),
        window=Window(start=row.onset, end=evaluation.window.end),
        subgroup=Subgroup.parse(row.subgroup) if row.subgroup else None,
        novel_share=row.evidence["displaced_share"],
    )
    champion = serving.champion(session, evaluation.monitor.specification.model)
    # Another version may serve by the time that somebody reads this.
    version = None if champion is None else str(ref(champion))
    row.evidence = {
        **row.evidence,
        "estimated": {**estimate.to_dict(), "version": version},
    }
    if "impact" not in row.evidence and row.impact == Impact.NONE_SHOWN:
        row.impact = _suspected(row, evaluation, estimate).value


def _suspected(row: EpisodeRow, evaluation: Evaluation, estimate: ImpactEstimate) -> Impact:
    """Suspect an impact where the champion's own space moved, too, or the estimate fell."""
    champion = [
        item for item in evaluation.deciding if item.reference.encoder == EncoderRole.CHAMPION
    ]
    moved = any(item.p_value <= evaluation.alpha for item in champion) or any(
        seen["encoder"] == EncoderRole.CHAMPION for seen in row.evidence.get("streams", [])
    )
    return Impact.SUSPECTED if moved or estimate.fallen else Impact.NONE_SHOWN

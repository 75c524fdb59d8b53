"""26 weeks with three promotions, as each week truly was and as the record tells it afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from monitored_history import ANCHOR
from retraining_rows import MODEL, PLAN, SUBGROUP, Retraining, person
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.episodes import episodes
from monitor.episodes.causes import Cause
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.tables import EpisodeRow, ScanRow
from registry import recalls, serving
from registry.errors import BadInputError, NotFoundError
from registry.serving import Withholding
from registry.versions import ref
from retrain import approvals, plans, runs
from retrain.approvals import Meaning
from retrain.history import studies
from retrain.history.standing import champion_at, require_past, standing_at
from retrain.promotion import promote
from retrain.rolling_back import roll_back

MEI = person("Mei")
WEEK = timedelta(days=7)
WEEKS = 26
#: After the first plan was applied.
BEGINNING = ANCHOR + timedelta(days=8)


@dataclass
class Truth:
    """What a week truly was, written down in that week."""

    champion: str
    plan: int
    approvers: list[str]
    out_of_use: list[tuple[str, str | None]]
    #: open episodes: cause, subgroup, impact
    drift: list[tuple[str, str | None, str]]
    scans: list[int] = field(default_factory=list)


@dataclass
class Story:
    """Lets a model live through the weeks, and writes down how each was."""

    retraining: Retraining
    truths: list[Truth] = field(default_factory=list)
    episode: int | None = None

    def tell(self) -> list[Truth]:
        happenings = {
            3: lambda: self.open(Cause.UNKNOWN),
            4: lambda: self.conclude(Cause.ACQUISITION, Impact.MEASURED),
            5: self.restrict,
            6: lambda: self.promote(EpisodeState.ACCEPTED),
            10: lambda: self.retraining.apply_plan(f"{PLAN}\n# of week 10\n"),
            12: self.promote,
            15: self.roll_back,
            18: self.promote,
            21: lambda: self.open(Cause.PREVALENCE),
            23: self.close,
        }
        for week in range(WEEKS):
            self.retraining.clock.at = BEGINNING + week * WEEK
            happenings.get(week, lambda: None)()
            self.truths.append(self.now(self.read()))
        return self.truths

    def open(self, cause: Cause) -> None:
        with self.retraining.database.transaction() as session:
            row = episodes.new_episode(
                "chest", onset=self.retraining.now, subgroup=None, at=self.retraining.now
            )
            row.cause, row.p_value, row.effect, row.heaviest = cause.value, 0.001, 1.0, []
            row.subgroup = SUBGROUP
            session.add(row)
            session.flush()
            self.episode = row.id
            self._record(session, row, "episode.opened")

    def conclude(self, cause: Cause, impact: Impact) -> None:
        with self.retraining.database.transaction() as session:
            row = session.get_one(EpisodeRow, self.episode)
            row.cause, row.impact = cause.value, impact.value
            self._record(session, row, "episode.updated")

    def _record(self, session: Session, row: EpisodeRow, kind: str) -> None:
        facts = {"cause": row.cause, "subgroup": row.subgroup, "impact": row.impact}
        episodes.record_change(
            session,
            row,
            kind,
            facts,
            actor="test",
            at=self.retraining.now,
        )

    def close(self) -> None:
        with self.retraining.database.transaction() as session:
            row = session.get_one(EpisodeRow, self.episode)
            episodes.end(
                session,
                row,
                EpisodeState.CLOSED,
                reason="over",
                actor="test",
                at=self.retraining.now,
            )

    def restrict(self) -> None:
        with self.retraining.database.transaction() as session:
            serving.withhold(
                session,
                model=MODEL,
                kind=Withholding.RESTRICT,
                subgroup=SUBGROUP,
                reason="test",
                actor="test",
                at=self.retraining.now,
            )

    def promote(self, _: EpisodeState | None = None) -> None:
        run = self.retraining.run_awaiting_approval(
            episode=self.episode if not self.truths or self.truths[-1].drift else None
        )
        with self.retraining.database.transaction() as session:
            row = runs.require_run(session, run)
            approvals.sign(
                session, row, Meaning.APPROVED, by=MEI, reason="seen", at=self.retraining.now
            )
            promote(session, row, by=MEI, at=self.retraining.now)

    def roll_back(self) -> None:
        with self.retraining.database.transaction() as session:
            roll_back(session, MODEL, reason="worse", by=MEI, at=self.retraining.now)

    def read(self) -> list[int]:
        """Let the champion of the week read two scans, an hour after they came."""
        history = self.retraining.history
        with self.retraining.database.reading() as session:
            history.champion = serving.require_champion(session, MODEL)
        return history.add(2, at=self.retraining.now, probabilities=[0.2, 0.8])

    def now(self, scans: list[int]) -> Truth:
        """Write down what stands now, from the tables of the present."""
        with self.retraining.database.reading() as session:
            champion = serving.require_champion(session, MODEL)
            plan = plans.in_force(session, MODEL)
            assert plan is not None
            made = session.scalars(
                select(runs.RunRow).where(runs.RunRow.candidate == champion.id)
            ).first()
            return Truth(
                champion=str(ref(champion)),
                plan=plan.number,
                approvers=[]
                if made is None
                else [one.by for one in approvals.signatures(session, made.id)],
                out_of_use=[
                    (one.kind, one.subgroup) for one in serving.restrictions(session, MODEL)
                ],
                drift=[
                    (one.cause, one.subgroup, one.impact)
                    for one in episodes.open_episodes(session, "chest")
                ],
                scans=scans,
            )


def told(document: dict[str, Any], scans: Sequence[int]) -> Truth:
    """Read an answer as a truth."""
    champion, plan = document["champion"], document["plan"]
    return Truth(
        champion=champion["version"],
        plan=plan["number"],
        approvers=[one["by"] for one in champion["approved_by"]],
        out_of_use=[(one["kind"], one["subgroup"]) for one in document["out_of_use"]],
        drift=[
            (one["cause"], one["subgroup"], one["impact"])
            for monitor in document["drift"]
            for one in monitor["episodes"]
        ],
        scans=list(scans),
    )


def test_each_of_26_weeks_is_told_as_it_truly_was(retraining: Retraining) -> None:
    truths = Story(retraining).tell()
    champions = [truth.champion for truth in truths]
    assert len(dict.fromkeys(champions)) == 4, "three promotions"
    assert champions[14] != champions[15] == champions[11], "and a rollback"
    assert any(truth.drift for truth in truths)
    assert any(truth.out_of_use for truth in truths)
    with retraining.database.reading() as session:
        for week, truth in enumerate(truths):
            at = BEGINNING + week * WEEK + timedelta(hours=1)
            assert told(standing_at(session, MODEL, at), truth.scans) == truth, week


def test_what_read_a_scan_stands_with_how_things_were_when_it_read(
    retraining: Retraining,
) -> None:
    truths = Story(retraining).tell()
    now = retraining.now + WEEK
    with retraining.database.reading() as session:
        for week, truth in enumerate(truths):
            rows = [session.get_one(ScanRow, scan) for scan in truth.scans]
            document = studies.as_of(session, rows, now)
            assert document["recomputed"] is False
            for scan, probability in zip(document["scans"], (0.2, 0.8), strict=True):
                [reading] = scan["readings"]
                assert reading["version"] == truth.champion, week
                assert reading["probabilities"] == [1 - probability, probability]
                # Half a week later, as the history has it: before the next week's happenings.
                assert told(reading["standing"], truth.scans) == truth, week


def test_before_it_was_read_nothing_had_read_it(retraining: Retraining) -> None:
    [scan] = retraining.history.add(1, at=ANCHOR, probabilities=[0.7])
    with retraining.database.reading() as session:
        row = session.get_one(ScanRow, scan)
        early = studies.as_of(session, [row], ANCHOR + timedelta(hours=1))
        assert early["scans"][0]["readings"] == []
        late = studies.as_of(session, [row], ANCHOR + WEEK)
        assert len(late["scans"][0]["readings"]) == 1
        with pytest.raises(NotFoundError, match="nothing of it had arrived by"):
            studies.as_of(session, [row], ANCHOR - WEEK)


def test_before_the_first_promotion_there_was_no_champion_and_no_plan(
    retraining: Retraining,
) -> None:
    with retraining.database.reading() as session:
        document = standing_at(session, MODEL, ANCHOR - 52 * WEEK)
        assert (document["champion"], document["plan"]) == (None, None)
        assert champion_at(session, MODEL, ANCHOR) is not None


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (datetime(2026, 3, 2), "has no time zone"),  # noqa: DTZ001
        (datetime(2031, 1, 1, tzinfo=UTC), "is yet to come"),
    ],
)
def test_a_moment_without_zone_or_yet_to_come_is_refused(at: datetime, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        require_past(at, now=ANCHOR)


def test_a_recall_of_the_champion_is_told_from_then_on(retraining: Retraining) -> None:
    with retraining.database.transaction() as session:
        champion = serving.require_champion(session, MODEL)
        recalls.recall(session, champion, reason="poisoned", by=MEI, at=ANCHOR + WEEK)
    with retraining.database.reading() as session:
        before, after = (
            standing_at(session, MODEL, at)["champion"] for at in (ANCHOR, ANCHOR + WEEK)
        )
    assert before["recalled_at"] is None
    assert after["recalled_at"] is not None

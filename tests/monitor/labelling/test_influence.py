from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from label_reports import csv_of
from labelled_home import ARRIVED, NOW, SITE, LabelledHome
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.labelling.influence import (
    WORDS,
    FirstResults,
    InfluenceReason,
    Worklists,
    derive,
    words_of,
)
from monitor.labelling.worklists import all_statements, sites_without_statement
from monitor.tables import LabelRow, ResultRow
from registry import ledger
from registry.errors import LabelError, NotPermittedError
from registry.identities import Identity
from registry.versions import ModelRow, VersionRow

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
EARLIER, LATER = NOON - timedelta(hours=1), NOON + timedelta(hours=1)
SILENT = Worklists(statements=(), models=frozenset({"ours"}))
NO_AI = Worklists(statements=((EARLIER, None),), models=frozenset({"ours"}))
OURS = Worklists(statements=((EARLIER, "ours"),), models=frozenset({"ours"}))
FOREIGN = Worklists(statements=((EARLIER, "theirs"),), models=frozenset({"ours"}))
FROM_NOW_ON = Worklists(statements=((LATER, "theirs"),), models=frozenset({"ours"}))
NOTHING = FirstResults()


def said(*, task: str = "task", at: datetime = EARLIER, delivered: bool = True) -> FirstResults:
    return FirstResults(delivered={task: at} if delivered else {}, by_model={"ours": at})


@pytest.mark.parametrize(
    ("first", "worklists", "reason"),
    [
        (NOTHING, SILENT, InfluenceReason.BEFORE_RESULTS),
        (NOTHING, NO_AI, InfluenceReason.INDEPENDENT),
        (NOTHING, OURS, InfluenceReason.BEFORE_RESULTS),
        (NOTHING, FOREIGN, InfluenceReason.WORKLIST_ORDERED),
        (NOTHING, FROM_NOW_ON, InfluenceReason.BEFORE_RESULTS),
        (said(), SILENT, InfluenceReason.RESULT_BEFORE),
        (said(), NO_AI, InfluenceReason.RESULT_BEFORE),
        (said(at=NOON), NO_AI, InfluenceReason.RESULT_BEFORE),
        (said(at=LATER), SILENT, InfluenceReason.BEFORE_RESULTS),
        (said(at=LATER), OURS, InfluenceReason.BEFORE_RESULTS),
        # A result of another task may have ordered the worklist, as long as nobody says otherwise.
        (said(task="other"), SILENT, InfluenceReason.WORKLIST_UNKNOWN),
        (said(task="other"), NO_AI, InfluenceReason.INDEPENDENT),
        (said(task="other"), OURS, InfluenceReason.WORKLIST_ORDERED),
        # What was delivered to nobody ordered nothing, unless it is what orders the worklist.
        (said(delivered=False), SILENT, InfluenceReason.BEFORE_RESULTS),
        (said(delivered=False), OURS, InfluenceReason.WORKLIST_ORDERED),
    ],
)
def test_the_reason_follows_from_results_and_worklists(
    first: FirstResults, worklists: Worklists, reason: InfluenceReason
) -> None:
    assert derive(first, worklists, task="task", signed_at=NOON) is reason


def test_what_is_unknown_counts_as_influenced() -> None:
    unknown = derive(NOTHING, NO_AI, task="task", signed_at=None)
    assert unknown is InfluenceReason.SIGNING_UNKNOWN
    assisted = derive(NOTHING, NO_AI, task="task", signed_at=NOON, assisted=True)
    assert assisted is InfluenceReason.ASSISTED
    assert unknown.influenced
    assert assisted.influenced
    free = {reason for reason in InfluenceReason if not reason.influenced}
    assert free == {InfluenceReason.BEFORE_RESULTS, InfluenceReason.INDEPENDENT}


@pytest.mark.parametrize(
    ("first", "worklists", "reason"),
    [
        (said(at=LATER), SILENT, InfluenceReason.SIGNING_DOUBTFUL),
        (said(task="other", at=LATER), NO_AI, InfluenceReason.SIGNING_DOUBTFUL),
        (NOTHING, FROM_NOW_ON, InfluenceReason.SIGNING_DOUBTFUL),
        (NOTHING, OURS, InfluenceReason.SIGNING_DOUBTFUL),
        # An archive of which nothing was delivered: no year could make a difference.
        (NOTHING, SILENT, InfluenceReason.BEFORE_RESULTS),
        (NOTHING, NO_AI, InfluenceReason.INDEPENDENT),
        (said(delivered=False), SILENT, InfluenceReason.BEFORE_RESULTS),
    ],
)
def test_a_doubtful_time_of_signing_counts_where_it_could_matter(
    first: FirstResults, worklists: Worklists, reason: InfluenceReason
) -> None:
    assert derive(first, worklists, task="task", signed_at=NOON, doubtful=True) is reason
    assert InfluenceReason.SIGNING_DOUBTFUL.influenced


def test_every_reason_has_words() -> None:
    assert set(WORDS) == set(InfluenceReason)
    assert words_of(None) == "derived before reasons were kept"


def deliver(home: LabelledHome, number: int, *, hours: float, task: str = "pneumonia") -> None:
    """Let a model of ours have delivered a result of an image, so long after it arrived."""
    with home.driftward.database.transaction() as session:
        version = _version(session)
        batch = ledger.next_batch(session, ResultRow)
        session.add(
            ResultRow(
                batch=batch,
                scan=number + 1,
                version=version.id,
                task=task,
                probabilities=[0.2, 0.8],
                threshold=0.5,
                delivery="delivered",
                created_at=ARRIVED + timedelta(hours=hours),
            )
        )
        ledger.append(
            session,
            at=NOW,
            actor="test",
            kind="scans.read",
            subject="x",
            facts={},
            batches=[(ResultRow, batch)],
        )


def _version(session: Session) -> VersionRow:
    found = session.scalars(select(VersionRow)).first()
    if found is not None:
        return found
    model = ModelRow(name="ours", tier="task", created_at=NOW)
    session.add(model)
    session.flush()
    version = VersionRow(
        model="ours",
        number=1,
        tier="task",
        origin="import",
        bundle_digest="x",
        encoder_digest="x",
        space="x",
        dimension=2,
        card={},
        artifact_uri="file:///nowhere",
        mlflow_run="x",
        created_at=NOW,
        created_by="test",
    )
    session.add(version)
    ledger.append(
        session,
        at=NOW,
        actor="test",
        kind="version.registered",
        subject="ours@1",
        facts={},
        seals=[model, version],
    )
    return version


def test_a_row_says_why_it_counts_as_influenced_or_not(home: LabelledHome) -> None:
    deliver(home, 0, hours=5)
    home.say(0, 1, hours=2)
    home.say(0, 1, reader="r2", hours=6)
    home.say(1, 1, provenance="report", hours=-1)
    assert [(row.ai_influenced, row.influence_reason) for row in home.labels()] == [
        (False, "before_results"),
        (True, "result_before"),
        (True, "signing_unknown"),
    ]


def test_a_statement_derives_the_influence_of_earlier_labels_anew_and_seals_it(
    home: LabelledHome,
) -> None:
    deliver(home, 0, hours=1, task="triage")
    home.say(0, 1, hours=2)
    home.say(1, 1, hours=2)
    home.say(2, 1, hours=2, provenance="report")
    intake, by = home.driftward.label_intake, home.operator

    def reasons() -> list[str | None]:
        return [row.influence_reason for row in home.labels()]

    assert reasons() == ["worklist_unknown", "before_results", "before_results"]
    changed = intake.state_worklist(site=SITE, ordered_by=None, since=ARRIVED, by=by)
    assert (changed, reasons()) == (1, ["independent"] * 3)
    later = ARRIVED + timedelta(hours=1)
    changed = intake.state_worklist(site=SITE, ordered_by="theirs", since=later, by=by)
    assert (changed, reasons()) == (3, ["worklist_ordered"] * 3)
    intake.state_worklist(site=SITE, ordered_by="ours", since=later, by=by)
    assert reasons() == ["worklist_ordered", "before_results", "before_results"]
    assert home.ledger_is_valid()
    with home.driftward.database.reading() as session:
        assert len(all_statements(session)) == 3
        stated = ledger.entries(session, kind="worklist.stated")
    assert stated[1].facts["became_influenced"] == [1, 2, 3]
    assert stated[2].facts["became_free"] == [2, 3]


def test_a_label_with_a_mistyped_year_is_refused_or_enters_no_gate(home: LabelledHome) -> None:
    with pytest.raises(
        LabelError, match="line 2: signed_at lies before the scan can have been"
    ):
        home.say(0, 1, years=-126)
    assert home.labels() == []
    assert [entry.facts["problem"] for entry in home.refusals()] == ["before_scan"]
    for number in (0, 1):
        deliver(home, number, hours=1)
    home.say(0, 1, years=-1)
    home.say(1, 1, days=-30)
    home.say(2, 1, years=-1)
    assert [row.influence_reason for row in home.labels()] == [
        "signing_doubtful",
        "before_results",
        "before_results",
    ]


def test_a_statement_leaves_a_doubtful_time_of_signing_doubtful(home: LabelledHome) -> None:
    deliver(home, 0, hours=1)
    home.say(0, 1, years=-1)
    long_ago = ARRIVED.replace(year=2020)
    home.driftward.label_intake.state_worklist(
        site=SITE, ordered_by=None, since=long_ago, by=home.operator
    )
    assert [row.influence_reason for row in home.labels()] == ["signing_doubtful"]


def test_a_label_that_was_edited_after_a_statement_is_found(home: LabelledHome) -> None:
    home.say(0, 1, hours=2)
    home.driftward.label_intake.state_worklist(
        site=SITE, ordered_by="theirs", since=ARRIVED, by=home.operator
    )
    with home.driftward.database.transaction() as session:
        row = session.scalars(select(LabelRow)).one()
        row.ai_influenced = False
    assert not home.ledger_is_valid()


def test_impossible_statements_are_refused(home: LabelledHome) -> None:
    intake, by = home.driftward.label_intake, home.operator
    with pytest.raises(LabelError, match="no scan of that site was taken in: there are north"):
        intake.state_worklist(site="south", ordered_by=None, since=ARRIVED, by=by)
    with pytest.raises(LabelError, match="lies in the future"):
        intake.state_worklist(site=SITE, ordered_by=None, since=NOW + timedelta(days=1), by=by)
    with pytest.raises(LabelError, match="1 to 64 characters"):
        intake.state_worklist(site=SITE, ordered_by="a\nb", since=ARRIVED, by=by)
    nobody = Identity(name="nobody", roles=frozenset())
    with pytest.raises(NotPermittedError):
        intake.state_worklist(site=SITE, ordered_by=None, since=ARRIVED, by=nobody)


def test_a_site_that_stated_nothing_is_known_to_have_said_nothing(home: LabelledHome) -> None:
    def silent() -> list[str]:
        with home.driftward.database.reading() as session:
            return sites_without_statement(session)

    assert silent() == []
    uid = home.images[0].SOPInstanceUID
    home.give(csv_of((uid, "pneumonia", 1, "reader", "r1", ARRIVED)))
    assert silent() == [SITE]
    home.driftward.label_intake.state_worklist(
        site=SITE, ordered_by=None, since=ARRIVED, by=home.operator
    )
    assert silent() == []

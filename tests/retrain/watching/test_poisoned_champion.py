"""A poisoned champion's whole way: flagged, suspended by its watch, and rolled back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from retraining_rows import MODEL, candidate_of, ledger_is_valid, seal
from sqlalchemy import select
from watched_rows import MEI, Watched

from monitor import references
from monitor.embeddings import to_bytes
from monitor.references import EncoderRole
from monitor.tables import EmbeddingRow, ScanRow
from registry import ledger, outbox, recalls, serving
from registry.errors import ConflictError, RecalledError
from registry.identities import SYSTEM
from registry.serving import Withholding
from registry.versions import VersionRow, find, ref
from retrain import allowance, plans, runs
from retrain.rolling_back import roll_back, undo_rollback
from retrain.watching.states import WatchState


def own_reference(watched: Watched, version: VersionRow) -> None:
    """Give a version a reference of its own, as the renewal after a promotion does."""
    history = watched.retraining.history
    with watched.database.transaction() as session:
        scans = session.scalars(select(ScanRow).order_by(ScanRow.id).limit(400)).all()
        number = ledger.next_batch(session, EmbeddingRow)
        session.add_all(
            EmbeddingRow(
                batch=number,
                scan=scan.id,
                version=version.id,
                space=version.space,
                vector=to_bytes(history.rng.normal(size=version.dimension).astype("float32")),
            )
            for scan in scans
        )
        ledger.append(
            session,
            at=watched.retraining.now,
            actor="test",
            kind="scans.read",
            subject="chest",
            facts={},
            batches=[(EmbeddingRow, number)],
        )
        dataset = references.freeze_reference(
            session, scans, description="own", actor="test", at=watched.retraining.now
        )
    with watched.database.reading() as session:
        fitted = [
            references.fit(
                session,
                history.profiles,
                dataset=dataset.id,
                encoder=role,
                version=one,
                attributes=history.monitor.specification.subgroup_attributes,
                seed=0,
            )
            for role, one in (
                (EncoderRole.MONITORING, history.encoder),
                (EncoderRole.CHAMPION, version),
            )
        ]
    with watched.database.transaction() as session:
        references.accept(
            session,
            history.monitor,
            fitted,
            dataset=dataset,
            reason="test",
            actor="test",
            at=watched.retraining.now,
        )


def deciding(watched: Watched) -> set[str]:
    """Return the versions of the champion's references that decide now."""
    with watched.database.reading() as session:
        return {
            str(ref(session.get_one(VersionRow, row.version)))
            for row in references.deciding(session, "chest")
            if row.encoder == EncoderRole.CHAMPION
        }


def out_of_use(watched: Watched) -> Sequence[str]:
    with watched.database.reading() as session:
        return [row.kind for row in serving.restrictions(session, MODEL)]


def test_a_poisoned_champion_is_flagged_suspended_and_rolled_back(watched: Watched) -> None:
    retraining = watched.retraining
    retraining.history.accept_reference()
    watched.apply_plan()
    run = watched.promote()
    with watched.database.transaction() as session:
        poisoned = candidate_of(session, find(session, "general@1"))
        champion = session.get_one(VersionRow, runs.require_run(session, run).candidate)
        champion.base = poisoned.id
        seal(session, "version.registered", champion)
    own_reference(watched, champion)
    assert deciding(watched) == {f"{MODEL}@2"}

    # It reads as poison does: what it is to find, it misses.
    watched.read(ill=40, found=12, well=30, cleared=29)
    watched.pass_days()
    assert watched.row().state == WatchState.FAILED
    assert out_of_use(watched) == [Withholding.SUSPEND]
    with watched.database.reading() as session:
        failed = ledger.entries(session, kind="watch.failed")
    assert [(one.actor, one.subject) for one in failed] == [(SYSTEM.name, f"{MODEL}@2")]

    # Its base is recalled: from that transaction on it is flagged wherever it is asked about.
    with watched.database.transaction() as session:
        recalls.recall(
            session,
            session.get_one(VersionRow, poisoned.id),
            reason="poisoned pixels in its training data",
            by=MEI,
            at=retraining.now,
        )
    watched.pass_days(0.01)  # one tick
    with watched.database.reading() as session:
        flags = recalls.flagged(session, serving.champions(session))
        plan = plans.require_plan(session, MODEL)
        forbidden = allowance.why_no_run(session, plan, at=retraining.now)
    assert [str(ref(flag.version)) for flag in flags] == [f"{MODEL}@2"]
    assert forbidden is not None
    assert "nothing is derived from it" in forbidden

    # One command restores the version before, with its own reference, and in use.
    with watched.database.transaction() as session:
        replaced, restored = roll_back(
            session, MODEL, reason="poisoned", by=MEI, at=retraining.now
        )
        assert (str(ref(replaced)), str(ref(restored))) == (f"{MODEL}@2", f"{MODEL}@1")
    assert deciding(watched) == {f"{MODEL}@1"}
    assert out_of_use(watched) == []
    with watched.database.reading() as session:
        assert outbox.backlog(session) is not None
    with watched.database.reading() as session:
        assert recalls.flagged(session, serving.champions(session)) == []

    # Nothing brings the poisoned one back.
    with pytest.raises(ConflictError), watched.database.transaction() as session:
        undo_rollback(session, MODEL, reason="no", by=MEI, at=retraining.now)
    assert ledger_is_valid(watched.database)


def test_a_mistaken_rollback_is_undone_and_the_version_watched_anew(watched: Watched) -> None:
    watched.apply_plan()
    watched.retraining.history.accept_reference()
    episode = watched.retraining.open_episode()
    with watched.database.transaction() as session:
        serving.withhold(
            session,
            model=MODEL,
            kind=Withholding.RESTRICT,
            subgroup="software_version=2.0",
            reason="drift",
            actor="test",
            at=watched.retraining.now,
        )
    watched.promote(episode=episode)
    watched.pass_days(2)
    with watched.database.transaction() as session:
        roll_back(session, MODEL, reason="wrong model", by=MEI, at=watched.retraining.now)
    assert out_of_use(watched) == [Withholding.RESTRICT]
    assert watched.row().state == WatchState.CUT_SHORT
    watched.pass_days()
    with watched.database.transaction() as session:
        replaced, restored = undo_rollback(
            session, MODEL, reason="it was the other one", by=MEI, at=watched.retraining.now
        )
        assert (str(ref(replaced)), str(ref(restored))) == (f"{MODEL}@1", f"{MODEL}@2")
    assert out_of_use(watched) == []
    assert watched.row().state == WatchState.WATCHING
    with watched.database.reading() as session:
        served = [row.version for row in serving.reigns(session, MODEL)]
    assert served[-3:] == [served[-1], served[0], served[-1]]
    with pytest.raises(ConflictError, match="none to undo"):
        undone_again(watched)
    with watched.database.transaction() as session:
        roll_back(session, MODEL, reason="again", by=MEI, at=watched.retraining.now)
    assert out_of_use(watched) == [Withholding.RESTRICT]
    assert ledger_is_valid(watched.database)


def undone_again(watched: Watched) -> None:
    with watched.database.transaction() as session:
        undo_rollback(session, MODEL, reason="twice", by=MEI, at=watched.retraining.now)


def test_a_version_recalled_meanwhile_does_not_come_back(watched: Watched) -> None:
    watched.apply_plan()
    run = watched.promote()
    with watched.database.transaction() as session:
        roll_back(session, MODEL, reason="mistake", by=MEI, at=watched.retraining.now)
        candidate = session.get_one(VersionRow, runs.require_run(session, run).candidate)
        recalls.recall(session, candidate, reason="bad", by=MEI, at=watched.retraining.now)
    with pytest.raises(RecalledError):
        undone_again(watched)

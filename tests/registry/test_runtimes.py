from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest
from registered_versions import add_version
from sqlalchemy import update
from sqlalchemy.orm import Session
from tampering import unguarded

from registry import ledger, runtimes, serving
from registry.database import Database
from registry.errors import BadInputError, NotFoundError, NotPermittedError
from registry.identities import Identity, Role
from registry.runtimes import AttestationRow, RuntimeRow, RuntimeStanding, RuntimeState
from registry.versions import find

OLA = Identity(name="Ola", roles=frozenset({Role.OPERATOR}))
NORTH = Identity(
    name="north-runtime", roles=frozenset(), site_roles={Role.OPERATOR: frozenset({"north"})}
)
FOREIGN = "f" * 64


def serve(
    session: Session,
    number: int,
    *,
    expected: int | None,
    at: datetime,
    site: str | None = None,
) -> None:
    serving.move_champion(
        session,
        find(session, f"pneumonia@{number}"),
        expected=find(session, f"pneumonia@{expected}").id if expected else None,
        reason="test",
        kind="champion.promoted",
        actor="test",
        at=at,
        deployment=site or serving.EVERYWHERE,
    )


@pytest.fixture
def declared(database: Database, now: datetime) -> Database:
    """Version 1 serves everywhere and is attested at north; 2 and 3 are there."""
    with database.transaction() as session:
        for number in (1, 2, 3):
            add_version(session, number, now)
        serve(session, 1, expected=None, at=now)
        runtimes.declare(session, "pneumonia", "north", by=OLA, at=now)
        attest(session, 1, now)
    return database


def digest_of(session: Session, number: int) -> str:
    return find(session, f"pneumonia@{number}").bundle_digest


def attest(session: Session, number: int, at: datetime) -> RuntimeStanding:
    return runtimes.attest(
        session, "pneumonia", "north", digest=digest_of(session, number), by=NORTH, at=at
    )


def state(session: Session, at: datetime) -> RuntimeState:
    runtime = runtimes.require_runtime(session, "pneumonia", "north")
    return runtimes.standing(session, runtime, now=at).state


def kinds(session: Session) -> list[str]:
    return [entry.kind for entry in ledger.entries(session, subject="pneumonia")]


#: Hours after the promotion of 2 -> what the runtime attests then; and what that comes to.
COURSES: Mapping[str, tuple[dict[int, int], int, RuntimeState]] = {
    "it has time left": ({}, 23, RuntimeState.PENDING),
    "it said nothing for a day": ({}, 24, RuntimeState.SILENT),
    "it took the new one": ({2: 2}, 100, RuntimeState.ATTESTED),
    "it still runs the former, and has time left": ({2: 1}, 23, RuntimeState.PENDING),
    "it still runs the former a day later": ({2: 1}, 24, RuntimeState.WRONG),
    "it runs one that was never promoted": ({2: 3}, 3, RuntimeState.WRONG),
    "it went back by itself": ({2: 2, 50: 1}, 51, RuntimeState.WRONG),
    "it was late": ({40: 2}, 41, RuntimeState.ATTESTED),
}


@pytest.mark.parametrize("course", COURSES)
def test_a_new_version_is_pending_until_the_runtime_attests_it(
    declared: Database, now: datetime, course: str
) -> None:
    said, hours, expected = COURSES[course]
    promoted = now + timedelta(days=7)
    with declared.transaction() as session:
        assert state(session, promoted) is RuntimeState.ATTESTED
        serve(session, 2, expected=1, at=promoted)
        assert state(session, promoted) is RuntimeState.PENDING
        for after, number in said.items():
            attest(session, number, promoted + timedelta(hours=after))
        found = state(session, promoted + timedelta(hours=hours))
    assert found is expected


def test_what_is_no_version_s_digest_is_wrong_at_once_and_recorded(
    declared: Database, now: datetime
) -> None:
    with declared.transaction() as session:
        found = runtimes.attest(
            session, "pneumonia", "north", digest=f"sha256:{FOREIGN.upper()}", by=NORTH, at=now
        )
        assert found.state is RuntimeState.WRONG
        assert found.says == (
            f"it should run pneumonia@1, and runs {FOREIGN[:12]}, which is no version of pneumonia"
        )
        [*_, entry] = ledger.entries(session, kind="runtime.wrong")
    assert (entry.actor, entry.facts["digest"], entry.facts["champion"]) == (
        "north-runtime",
        FOREIGN,
        "pneumonia@1",
    )


def test_the_same_said_again_is_recorded_once_for_each_champion(
    declared: Database, now: datetime
) -> None:
    with declared.transaction() as session:
        for hour in range(3):
            attest(session, 1, now + timedelta(hours=hour))
        assert kinds(session).count("runtime.attested") == 1
        serve(session, 2, expected=1, at=now + timedelta(days=1))
        for hour in range(3):
            attest(session, 1, now + timedelta(days=1, hours=hour))
        assert kinds(session)[-1] == "runtime.behind"
        assert kinds(session).count("runtime.behind") == 1


def test_a_site_is_held_against_its_own_champion(declared: Database, now: datetime) -> None:
    with declared.transaction() as session:
        runtimes.declare(session, "pneumonia", "south", by=OLA, at=now)
        serve(session, 2, expected=1, at=now + timedelta(hours=1), site="north")
        attest(session, 2, now + timedelta(hours=2))
        found = {
            one.deployment: (
                one.champion and one.champion.number,
                one.runtime and one.runtime.state,
            )
            for one in runtimes.deployments(session, "pneumonia", now=now + timedelta(hours=3))
        }
    assert found == {
        "everywhere": (1, None),
        "north": (2, RuntimeState.ATTESTED),
        "south": (1, RuntimeState.PENDING),
    }


def test_who_may_attest_is_an_operator_of_that_site(declared: Database, now: datetime) -> None:
    with declared.transaction() as session:
        runtimes.declare(session, "pneumonia", "everywhere", by=OLA, at=now)
        for deployment in ("south", "everywhere"):
            with pytest.raises(NotPermittedError, match="north-runtime may not attest"):
                runtimes.attest(
                    session, "pneumonia", deployment, digest=FOREIGN, by=NORTH, at=now
                )


def test_a_withdrawn_runtime_is_waited_for_no_longer(declared: Database, now: datetime) -> None:
    with declared.transaction() as session:
        runtimes.withdraw(session, "pneumonia", "north", reason="moved", by=OLA, at=now)
        assert runtimes.runtimes(session) == []
        with pytest.raises(
            NotFoundError, match="no runtime of pneumonia was declared at north"
        ):
            attest(session, 1, now)
        runtimes.declare(session, "pneumonia", "north", by=OLA, at=now)
        assert state(session, now) is RuntimeState.ATTESTED


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "f" * 65])
def test_what_is_no_digest_is_refused(declared: Database, now: datetime, digest: str) -> None:
    with (
        declared.transaction() as session,
        pytest.raises(BadInputError, match="64 hexadecimal"),
    ):
        runtimes.attest(session, "pneumonia", "north", digest=digest, by=NORTH, at=now)


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan"), 1e9])
def test_hours_that_are_none_are_refused(
    declared: Database, now: datetime, hours: float
) -> None:
    with declared.transaction() as session, pytest.raises(BadInputError, match="more than 0"):
        runtimes.declare(
            session, "pneumonia", "north", silent_after_hours=hours, by=OLA, at=now
        )


def test_an_attestation_that_was_edited_is_found(declared: Database, now: datetime) -> None:
    with unguarded(declared) as session:
        session.execute(update(AttestationRow).values(digest=FOREIGN))
    with declared.reading() as session:
        fault = ledger.verify(session, [RuntimeRow, AttestationRow]).fault
    assert fault is not None
    assert fault.problem == "row attestations/1 was changed"

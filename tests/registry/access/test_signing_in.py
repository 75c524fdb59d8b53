from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from people import ADMIN, PASSWORD, add_user, disable, make_token

from registry import ledger
from registry.access import attempts, sessions, signing_in, tokens, users
from registry.access.signing_in import Proof
from registry.database import Database
from registry.errors import BadInputError, ConflictError, NotSignedInError, TooManyAttemptsError
from registry.identities import IdentityRow, Role, identity_of, require_row

pytestmark = pytest.mark.usefixtures("cheap_passwords")

WRONG = "seven red kettles sing"


@pytest.fixture
def mei(database: Database, now: datetime) -> str:
    add_user(database, "admin", Role.ADMIN, at=now, password=None)
    return add_user(database, "mei", Role.APPROVER, at=now).name


def entries(database: Database, kind: str) -> list[ledger.Entry]:
    with database.reading() as session:
        assert ledger.verify(session).fault is None
        return ledger.entries(session, kind=kind)


def try_password(
    database: Database, name: str, password: str, at: datetime, address: str | None = None
) -> signing_in.Proven:
    return signing_in.by_password(
        database, name, password, address=address, purpose="sign-in", at=at
    )


def test_the_right_password_says_who_it_is(database: Database, mei: str, now: datetime) -> None:
    proven = try_password(database, mei, PASSWORD, now)
    assert (proven.identity.name, proven.proof, proven.shared) == (mei, Proof.PASSWORD, False)
    assert proven.identity.roles == {Role.APPROVER}


def test_what_is_refused_says_nothing_about_who_exists(
    database: Database, mei: str, now: datetime
) -> None:
    add_user(database, "ana", at=now)
    disable(database, "ana", at=now)
    add_user(database, "router", at=now, password=None)
    texts = set()
    for name, password in (
        (mei, WRONG),
        ("nobody", PASSWORD),
        ("ana", PASSWORD),  # disabled
        ("router", PASSWORD),  # has none
    ):
        with pytest.raises(NotSignedInError) as refused:
            try_password(database, name, password, now)
        texts.add(str(refused.value))
    assert len(texts) == 1
    failed = entries(database, "sign_in.failed")
    assert [entry.actor for entry in failed] == [mei, "unknown", "ana", "router"]
    assert "nobody" not in repr(failed)


def test_five_failures_close_a_name_for_a_while_known_or_not(
    database: Database, mei: str, now: datetime
) -> None:
    for name in (mei, "nobody"):
        for second in range(attempts.MOST_PER_NAME):
            with pytest.raises(NotSignedInError):
                try_password(database, name, WRONG, now + timedelta(seconds=second))
        with pytest.raises(TooManyAttemptsError, match="15 minutes") as refused:
            try_password(database, name, PASSWORD, now + timedelta(seconds=4))
        assert refused.value.seconds == attempts.WINDOW.total_seconds()
    reopened = Database(database.url)  # a restart forgives nobody
    with pytest.raises(TooManyAttemptsError):
        try_password(reopened, mei, PASSWORD, now + timedelta(minutes=14))
    reopened.dispose()
    later = now + attempts.WINDOW + timedelta(seconds=5)
    assert try_password(database, mei, PASSWORD, later).identity.name == mei


def test_a_success_forgives_the_failures_before_it(
    database: Database, mei: str, now: datetime
) -> None:
    for _ in range(2):
        for _ in range(attempts.MOST_PER_NAME - 1):
            with pytest.raises(NotSignedInError):
                try_password(database, mei, WRONG, now)
        try_password(database, mei, PASSWORD, now)


def test_one_address_may_try_no_more_names_than_so_many(
    database: Database, mei: str, now: datetime
) -> None:
    with database.transaction() as session:
        for number in range(attempts.MOST_PER_ADDRESS):
            attempts.take_turn(session, f"name {number}", "192.0.2.7", at=now)
    with pytest.raises(TooManyAttemptsError):
        try_password(database, mei, PASSWORD, now, "192.0.2.7")
    assert try_password(database, mei, PASSWORD, now, "192.0.2.8").identity.name == mei


def test_a_hundred_guesses_at_once_are_no_more_than_five(
    database: Database, mei: str, now: datetime
) -> None:
    def guess(_: int) -> type[Exception]:
        try:
            try_password(database, mei, WRONG, now)
        except (NotSignedInError, TooManyAttemptsError) as error:
            return type(error)
        raise AssertionError

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(guess, range(24)))
    assert outcomes.count(NotSignedInError) == attempts.MOST_PER_NAME


def test_a_token_is_shown_once_and_kept_by_its_digest(
    database: Database, mei: str, now: datetime
) -> None:
    text = make_token(database, mei, at=now)
    proven = signing_in.by_token(database, text, at=now)
    assert (proven.identity.name, proven.proof, proven.shared) == (mei, Proof.TOKEN, False)
    with database.reading() as session:
        [row] = tokens.all_tokens(session, mei)
        assert row.digest not in text
        assert text.rpartition("_")[2] not in repr(ledger.entries(session))
    made_by_another = make_token(database, mei, at=now, by=ADMIN)
    assert signing_in.by_token(database, made_by_another, at=now).shared


def test_a_token_that_is_over_is_refused_with_why_and_in_the_ledger_once(
    database: Database, mei: str, now: datetime
) -> None:
    revoked, expired = (make_token(database, mei, at=now, days=1) for _ in range(2))
    with database.transaction() as session:
        tokens.revoke(
            session,
            revoked.split("_")[1],
            reason="lost",
            by=identity_of(require_row(session, mei)),
            at=now,
        )
    for _ in range(3):
        with pytest.raises(NotSignedInError, match="was revoked") as refused:
            signing_in.by_token(database, revoked, at=now)
        assert refused.value.why == "revoked_token"
    with pytest.raises(NotSignedInError, match="expired at"):
        signing_in.by_token(database, expired, at=now + timedelta(days=1))
    for wrong in ("", "dwt_", expired[:-1] + ("A" if expired[-1] != "A" else "B")):
        with pytest.raises(NotSignedInError, match="not known"):
            signing_in.by_token(database, wrong, at=now)
    failed = entries(database, "sign_in.failed")
    assert [entry.facts["why"] for entry in failed] == ["revoked_token", "expired_token"]


def test_who_is_disabled_is_out_by_every_road(
    database: Database, mei: str, now: datetime
) -> None:
    text = make_token(database, mei, at=now)
    secret, _ = signing_in.sign_in(database, mei, PASSWORD, address=None, at=now)
    disable(database, mei, at=now)
    with pytest.raises(NotSignedInError):
        try_password(database, mei, PASSWORD, now)
    with pytest.raises(NotSignedInError) as refused:
        signing_in.by_token(database, text, at=now)
    assert refused.value.why == "disabled_user"
    with database.reading() as session:
        assert sessions.resume(session, secret, at=now) is None


def test_a_session_ends_by_rest_by_age_and_by_sign_out(
    database: Database, mei: str, now: datetime
) -> None:
    secret, _ = signing_in.sign_in(database, mei, PASSWORD, address=None, at=now)

    def goes_on(at: datetime) -> bool:
        with database.transaction() as session:
            found = sessions.resume(session, secret, at=at)
            if found is not None:
                sessions.touch(session, secret, at=at)
            return found is not None

    assert not goes_on(now + sessions.REST)
    at = now
    while at + timedelta(minutes=20) < now + sessions.AGE:
        at += timedelta(minutes=20)
        assert goes_on(at)
    assert not goes_on(now + sessions.AGE)
    with database.transaction() as session:
        sessions.end(session, secret, at=at)
    assert not goes_on(at)
    assert [entry.actor for entry in entries(database, "session.ended")] == [mei]


def test_a_new_password_ends_the_sessions_that_the_former_one_began(
    database: Database, mei: str, now: datetime
) -> None:
    secret, _ = signing_in.sign_in(database, mei, PASSWORD, address=None, at=now)
    later = now + timedelta(minutes=1)
    with pytest.raises(NotSignedInError):
        signing_in.change_password(
            database, mei, before=WRONG, after="a wholly new one", address=None, at=later
        )
    with pytest.raises(ConflictError, match="has a password"):
        signing_in.change_password(
            database, mei, before=None, after="a wholly new one", address=None, at=later
        )
    with pytest.raises(BadInputError, match="the password that was"):
        signing_in.change_password(
            database, mei, before=PASSWORD, after=PASSWORD, address=None, at=later
        )
    signing_in.change_password(
        database, mei, before=PASSWORD, after="a wholly new one", address=None, at=later
    )
    with database.reading() as session:
        assert sessions.resume(session, secret, at=later) is None
    assert try_password(database, mei, "a wholly new one", later).shared is False


def test_a_first_password_is_somebody_else_s_until_it_is_replaced(
    database: Database, mei: str, now: datetime
) -> None:
    with database.transaction() as session:
        row = require_row(session, mei)
        users.set_password(session, row, "chosen by the admin", by=ADMIN, at=now)
    assert try_password(database, mei, "chosen by the admin", now).shared
    assert "chosen by" not in repr(entries(database, "identity.password_set"))


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("identities", "roles", "'[\"admin\"]'"),
        ("identities", "site_roles", '\'{"admin": ["north"]}\''),
        ("identities", "password", "'$argon2id$mine'"),
        ("identities", "disabled_at", "NULL"),
        ("tokens", "expires_at", "'2099-01-01 00:00:00.000000'"),
        ("tokens", "revoked_at", "NULL"),
        ("tokens", "digest", "'mine'"),
        ("sessions", "identity", "'admin'"),
    ],
)
def test_an_edited_grant_token_or_session_is_found(
    database: Database, mei: str, now: datetime, table: str, column: str, value: str
) -> None:
    text = make_token(database, mei, at=now)
    signing_in.sign_in(database, mei, PASSWORD, address=None, at=now)
    with database.transaction() as session:
        owner = identity_of(session.get_one(IdentityRow, mei))
        tokens.revoke(session, text.split("_")[1], reason="lost", by=owner, at=now)
    disable(database, mei, at=now)
    key = "name" if table == "identities" else "identity"
    with database.transaction() as session:
        assert ledger.verify(session).fault is None
        connection = session.connection()
        connection.exec_driver_sql(
            f"UPDATE {table} SET {column} = {value} WHERE {key} = '{mei}'"
        )
    with database.reading() as session:
        fault = ledger.verify(session).fault
        assert fault is not None
        assert f"row {table}/" in fault.problem

"""Making a home: its folders, its keys, its database, and the first identity."""

from __future__ import annotations

import secrets

from api.assembly import Driftward
from api.settings import Settings
from monitor.intake.durable_files import write_durably
from monitor.intake.keys import create_key
from registry import identities, ledger
from registry.canonical import sha256
from registry.clock import Clock
from registry.errors import HomeError
from registry.identities import SYSTEM, Identity, Role

PRIVATE = 0o700


def initialise(
    settings: Settings,
    *,
    name: str | None = None,
    clock: Clock | None = None,
    key_seed: str | None = None,
) -> Identity:
    """Make a home, and bind the operating system's user to an identity with every role.

    Parameters
    ----------
    name : in the ledger; by default the operating system's user
    key_seed : derives the keys from this text, so that a demonstration repeats; keys
        that protect patients are random

    Raises
    ------
    HomeError
        If it is one already, or a folder with other things in it; if the database is another
        home's, or cannot be reached.
    """
    driftward = Driftward(settings, clock=clock)
    home = driftward.home
    if home.database.exists() or home.pseudonym_key.exists():
        raise HomeError(f"{home.root} is a Driftward home already: nothing was changed")
    if home.root.exists() and any(home.root.iterdir()):
        raise HomeError(f"{home.root} holds other files: name an empty or a new folder")
    if settings.database_url is not None and driftward.database.require_known_schema():
        raise HomeError(
            "the database that DRIFTWARD_DATABASE_URL names is a home's already, and other keys "
            "would not fit it: nothing was changed; name an empty database, or that home"
        )
    for folder in (home.root, home.keys, home.vault, home.quarantine, home.work, home.profiles):
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    for key in (home.pseudonym_key, home.quarantine_key):
        if key_seed is None:
            create_key(key)
        else:
            derived = sha256(f"{key_seed}, {key.name}".encode())
            write_durably(key, f"{derived}\n".encode(), overwrite=False)
    installation = secrets.token_hex(16)
    if key_seed is not None:
        installation = sha256(f"{key_seed}, installation".encode())[:32]
    driftward.database.migrate()
    user = identities.operating_system_user()
    now = driftward.clock.now()
    with driftward.database.transaction() as session:
        ledger.append(
            session,
            at=now,
            actor=SYSTEM.name,
            kind="home.initialised",
            subject="home",
            facts={
                "clock": type(driftward.clock).__name__,
                # Makes the first entry, and with it the ledger's origin, unlike any other's.
                "installation": installation,
            },
        )
        return identities.bind(
            session, name=name or user, os_user=user, roles=frozenset(Role), at=now
        )

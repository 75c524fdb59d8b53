"""A run signed over HTTP: by programs as JSON, by people on its page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from monitored_history import History, found
from people import PASSWORD, add_user, make_token
from retraining_rows import PLAN, Retraining, ledger_is_valid, person, seal

from api.assembly import Driftward
from api.http.app import create_app
from api.http.local_peer import nobody
from api.settings import Settings
from monitor.references import ProfileStore
from registry import ledger
from registry.access import tokens
from registry.database import Database
from registry.identities import Role
from retrain import approvals, runs
from retrain.states import RunState

pytestmark = pytest.mark.usefixtures("cheap_passwords")

ADDRESS = "http://127.0.0.1:8321"
TWO = PLAN.replace("people: 1", "people: 2").replace(
    "authority: research", "authority: in-house"
)


@pytest.fixture
def retraining(database: Database, tmp_path: Path) -> Retraining:
    found(database)
    made = Retraining(History(database, ProfileStore(tmp_path / "profiles")))
    made.apply_plan(TWO)
    for name in ("mei", "ana"):
        add_user(database, name, Role.APPROVER, at=made.now)
    add_user(database, "vi", Role.VIEWER, at=made.now)
    return made


@pytest.fixture
def driftward(retraining: Retraining, tmp_path: Path) -> Iterator[Driftward]:
    settings = Settings(home=tmp_path, database_url=retraining.database.url)
    made = Driftward(settings, clock=retraining.clock)
    yield made
    made.database.dispose()


@pytest.fixture
def run(retraining: Retraining) -> int:
    # Without gates, whose rows here are too bare for a page.
    return retraining.run_awaiting_approval(outcomes=())


@pytest.fixture
def client(driftward: Driftward) -> Iterator[TestClient]:
    app = create_app(driftward, recognise=nobody)
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as made:
        made.follow_redirects = False
        yield made


def known(driftward: Driftward, name: str) -> dict[str, str]:
    token = make_token(driftward.database, name, at=driftward.clock.now())
    return {"authorization": f"Bearer {token}"}


def body(
    client: TestClient, run: int, header: dict[str, str], **changed: Any
) -> dict[str, Any]:
    seen = client.get(f"/api/v1/runs/{run}", headers=header).json()["seen"]
    stated = {
        "meaning": "approved",
        "reason": "gates read",
        "seen": seen,
        "credential": PASSWORD,
        **changed,
    }
    return {name: value for name, value in stated.items() if value is not ...}


def test_two_programs_of_two_people_sign(
    driftward: Driftward, client: TestClient, run: int
) -> None:
    url = f"/api/v1/runs/{run}/signatures"
    for name, left in (("mei", 1), ("ana", 0)):
        header = known(driftward, name)
        answer = client.post(url, headers=header, json=body(client, run, header))
        assert answer.status_code == 201, answer.text
        assert answer.json()["missing"] == left
        assert answer.json()["signature"]["printed_name"] == name
    shown = client.get(f"/api/v1/runs/{run}", headers=header).json()
    assert [(one["by"], one["proof"], one["void"]) for one in shown["signatures"]] == [
        ("mei", "password", None),
        ("ana", "password", None),
    ]
    assert ledger_is_valid(driftward.database)


@pytest.mark.parametrize(
    ("changed", "status", "problem"),
    [
        ({"credential": ...}, 403, "once more"),
        ({"credential": "not the right one"}, 403, "name or password is wrong"),
        ({"seen": "0" * 64}, 403, "no longer what you saw"),
        ({"seen": "short"}, 422, "seen"),
        ({"meaning": "perhaps"}, 422, "meaning"),
        ({"reason": ""}, 422, "reason"),
        ({"by": "ana"}, 422, "by"),
    ],
)
def test_what_is_refused_is_a_problem_that_says_why(
    driftward: Driftward,
    client: TestClient,
    run: int,
    changed: dict[str, Any],
    status: int,
    problem: str,
) -> None:
    header = known(driftward, "mei")
    answer = client.post(
        f"/api/v1/runs/{run}/signatures",
        headers=header,
        json=body(client, run, header, **changed),
    )
    assert answer.status_code == status
    assert problem in answer.json()["detail"]
    assert PASSWORD not in answer.text
    with driftward.database.reading() as session:
        refused = ledger.entries(session, kind="approval.refused")
    assert len(refused) == (status == 403)


def signed_once(retraining: Retraining, run: int) -> None:
    retraining.approve(run, by=person("mei"))


def started_by_the_signer(retraining: Retraining, _: int) -> None:
    # The run's own entry names who started it: `test`, as its builder says.
    add_user(retraining.database, "test", Role.APPROVER, at=retraining.now)


def trained_otherwise(retraining: Retraining, run: int) -> None:
    with retraining.database.transaction() as session:
        row = runs.require_run(session, run)
        row.settings = {**row.settings, "epochs": 900}
        seal(session, "test", row)


def planned_otherwise(retraining: Retraining, _: int) -> None:
    retraining.apply_plan(f"{TWO}\n# reviewed\n")


def for_another_site(retraining: Retraining, _: int) -> None:
    add_user(retraining.database, "north", Role.APPROVER, sites=["north"], at=retraining.now)


def nothing(*_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("meanwhile", "before", "who", "credential", "why", "problem"),
    [
        (nothing, signed_once, "mei", PASSWORD, "same_person", "has signed run"),
        (nothing, started_by_the_signer, "test", PASSWORD, "starter", "started run"),
        (trained_otherwise, nothing, "mei", PASSWORD, "changed", "no longer what you saw"),
        (nothing, nothing, "mei", "revoked", "revoked_token", "was revoked"),
        (nothing, for_another_site, "north", PASSWORD, "site", "takes effect at site"),
        (planned_otherwise, nothing, "mei", PASSWORD, "plan_changed", "in force now"),
    ],
)
def test_who_may_not_sign_this_run_or_not_so_is_refused_and_the_ledger_says_why(
    retraining: Retraining,
    driftward: Driftward,
    client: TestClient,
    run: int,
    meanwhile: Callable[[Retraining, int], None],
    before: Callable[[Retraining, int], None],
    who: str,
    credential: str,
    why: str,
    problem: str,
) -> None:
    before(retraining, run)
    header = known(driftward, who)
    if credential == "revoked":
        credential = make_token(driftward.database, who, at=retraining.now)
        with driftward.database.transaction() as session:
            number = credential.split("_")[1]
            tokens.revoke(session, number, reason="lost", by=person(who), at=retraining.now)
    asked = body(client, run, header, credential=credential)
    meanwhile(retraining, run)
    with driftward.database.reading() as session:
        given = len(approvals.signatures(session, run))
    answer = client.post(f"/api/v1/runs/{run}/signatures", headers=header, json=asked)
    assert answer.status_code == 403
    assert problem in answer.json()["detail"]
    with driftward.database.reading() as session:
        [entry] = ledger.entries(session, kind="approval.refused")
        assert (entry.actor, entry.subject) == (who, f"run {run}")
        assert (entry.facts["why"], entry.facts["problem"]) == (
            why,
            answer.json()["detail"],
        )
        assert len(approvals.signatures(session, run)) == given
        assert runs.require_run(session, run).state == RunState.AWAITING_APPROVAL
    assert ledger_is_valid(driftward.database)


def test_a_viewer_signs_nothing_and_a_form_is_no_json(
    driftward: Driftward, client: TestClient, run: int
) -> None:
    header = known(driftward, "vi")
    url = f"/api/v1/runs/{run}/signatures"
    answer = client.post(url, headers=header, json=body(client, run, header))
    assert answer.status_code == 403
    assert "takes the role approver" in answer.json()["detail"]
    assert client.post(url, headers=header, data=body(client, run, header)).status_code == 422
    too_long = client.post(
        url, headers=header, json=body(client, run, header, reason="x" * 20_000)
    )
    assert too_long.status_code == 422


def field(page: str, name: str) -> str:
    return re.search(rf'name="{name}" value="([^"]*)"', page).group(1)  # type: ignore[union-attr]


def test_two_people_sign_on_the_page(
    driftward: Driftward, client: TestClient, run: int
) -> None:
    url = f"/runs/{run}"
    for name in ("mei", "ana"):
        client.cookies.clear()
        signed_in = client.post(
            "/sign-in", data={"name": name, "password": PASSWORD, "to": url}
        )
        assert signed_in.headers["location"] == url
        page = client.get(url).text
        form = {
            "form_key": field(page, "form_key"),
            "seen": field(page, "seen"),
            "meaning": "approved",
            "reason": "gates and data read",
            "credential": "not the right one",
        }
        refused = client.post(f"{url}/signatures", data=form)
        assert refused.status_code == 403
        assert "was not signed: name or password is wrong." in unescape(refused.text)
        assert "gates and data read</textarea>" in refused.text  # nothing is typed twice
        stolen = client.post(f"{url}/signatures", data={**form, "form_key": "0" * 64})
        assert "not of your session" in stolen.text
        answer = client.post(f"{url}/signatures", data={**form, "credential": PASSWORD})
        assert (answer.status_code, answer.headers["location"]) == (303, f"{url}#sign")
    page = client.get(url).text
    assert "Ready to be promoted" in page
    assert "with a password" in page


def test_who_may_not_sign_has_no_form(
    driftward: Driftward, client: TestClient, run: int
) -> None:
    client.post("/sign-in", data={"name": "vi", "password": PASSWORD, "to": "/"})
    page = client.get(f"/runs/{run}").text
    assert "signatures" not in page
    assert "Who has the role approver signs here" in page

"""A runtime attests by a token of its own site, and what it attested is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from first_champion import put_into_use
from label_reports import image
from labelled_home import LabelledHome
from people import add_user, make_token
from registered_versions import add_version

from api.http.app import create_app
from api.http.local_peer import nobody
from registry import ledger, serving
from registry.identities import Role

DEPLOYMENTS = "/api/v1/models/pneumonia/deployments"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[LabelledHome]:
    made = LabelledHome.founded(tmp_path, [image(1)])
    now = made.driftward.clock.now()
    with made.driftward.database.transaction() as session:
        version = add_version(session, 1, now)
        put_into_use(session, version, at=now)
    yield made
    made.driftward.database.dispose()


@pytest.fixture
def client(home: LabelledHome) -> Iterator[TestClient]:
    database, now = home.driftward.database, home.driftward.clock.now()
    add_user(database, "runtime", Role.OPERATOR, sites=["north"], at=now, password=None)
    token = make_token(database, "runtime", at=now)
    app = create_app(home.driftward, recognise=nobody)
    with TestClient(
        app, base_url="http://127.0.0.1:8321", headers={"authorization": f"Bearer {token}"}
    ) as made:
        yield made


def test_a_runtime_is_declared_attests_and_is_shown(
    client: TestClient, home: LabelledHome
) -> None:
    declared = client.put(f"{DEPLOYMENTS}/north/runtime", json={"silent_after_hours": 4})
    assert (declared.status_code, declared.json()["state"]) == (200, "pending")
    [everywhere, north] = client.get(DEPLOYMENTS).json()
    assert (everywhere["deployment"], everywhere["runtime"]) == ("everywhere", None)
    assert (north["champion"], north["runtime"]["state"]) == ("pneumonia@1", "pending")

    for _ in range(2):
        said = client.post(
            f"{DEPLOYMENTS}/north/attestations", json={"digest": north["digest"]}
        )
        assert (said.status_code, said.json()["state"]) == (200, "attested")
    wrong = client.post(f"{DEPLOYMENTS}/north/attestations", json={"digest": "e" * 64}).json()
    assert (wrong["state"], wrong["attested_by"]) == ("wrong", "runtime")
    assert 'driftward_runtime{deployment="north",model="pneumonia",state="wrong"} 1.0' in (
        client.get("/metrics").text
    )
    assert client.delete(f"{DEPLOYMENTS}/north/runtime").status_code == 422
    gone = client.delete(f"{DEPLOYMENTS}/north/runtime", params={"reason": "moved"})
    assert gone.status_code == 204
    with home.driftward.database.reading() as session:
        kinds = [entry.kind for entry in ledger.entries(session, subject="pneumonia")]
    assert kinds == [
        "runtime.declared",
        "runtime.attested",
        "runtime.wrong",
        "runtime.withdrawn",
    ]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"{DEPLOYMENTS}/north/attestations", {"digest": "e" * 64}, 404),
        (f"{DEPLOYMENTS}/south/attestations", {"digest": "e" * 64}, 403),
        (f"{DEPLOYMENTS}/everywhere/attestations", {"digest": "e" * 64}, 403),
        (f"{DEPLOYMENTS}/north/attestations", {"digest": "e" * 64, "version": 1}, 422),
        ("/api/v1/models/lungs/deployments/north/attestations", {"digest": "e" * 64}, 404),
    ],
)
def test_what_may_not_be_attested_is_refused(
    client: TestClient, path: str, body: dict[str, object], status: int
) -> None:
    assert client.post(path, json=body).status_code == status


def refusals(home: LabelledHome) -> list[tuple[str, str, str]]:
    with home.driftward.database.reading() as session:
        return [
            (entry.kind, entry.actor, entry.facts["why"])
            for entry in ledger.entries(session)
            if entry.kind.endswith(".refused")
        ]


def test_what_a_runtime_may_not_attest_is_in_the_ledger_once_a_while(
    client: TestClient, home: LabelledHome
) -> None:
    said = {"digest": "e" * 64}
    for _ in range(2):
        assert client.post(f"{DEPLOYMENTS}/north/attestations", json=said).status_code == 404
        assert client.post(f"{DEPLOYMENTS}/south/attestations", json=said).status_code == 403
    client.put(f"{DEPLOYMENTS}/north/runtime", json={"silent_after_hours": 4})
    odd = client.post(f"{DEPLOYMENTS}/north/attestations", json={"digest": "latest"})
    assert odd.status_code == 422
    assert refusals(home) == [
        ("attestation.refused", "runtime", "NotFoundError"),
        ("access.refused", "runtime", "NotPermittedError"),
        ("attestation.refused", "runtime", "BadInputError"),
    ]
    with home.driftward.database.reading() as session:
        [entry] = ledger.entries(session, kind="access.refused")
        assert ledger.verify(session).valid
    assert entry.subject == f"POST {DEPLOYMENTS}/south/attestations"
    assert "for the site south" in entry.facts["problem"]


def test_a_model_is_suspended_at_the_caller_s_site_and_nowhere_else(
    client: TestClient, home: LabelledHome
) -> None:
    for _ in range(2):
        done = client.put(f"{DEPLOYMENTS}/north/suspension", json={"reason": "odd results"})
        assert done.status_code == 204
    [everywhere, north] = client.get(DEPLOYMENTS).json()
    assert (everywhere["out_of_use"], north["out_of_use"]) == (None, "odd results")
    [held] = client.get("/api/v1/models/pneumonia").json()["restrictions"]
    assert (held["kind"], held["subgroup"]) == ("suspend", "site=north")
    for place in ("south", "everywhere"):
        refused = client.put(f"{DEPLOYMENTS}/{place}/suspension", json={"reason": "odd"})
        assert refused.status_code == 403
    gone = client.delete(f"{DEPLOYMENTS}/north/suspension", params={"reason": "mended"})
    assert gone.status_code == 204
    again = client.delete(f"{DEPLOYMENTS}/north/suspension", params={"reason": "mended"})
    assert (again.status_code, "in force is nothing" in again.json()["detail"]) == (404, True)
    with home.driftward.database.reading() as session:
        kinds = [entry.kind for entry in ledger.entries(session, subject="pneumonia")]
        assert ledger.verify(session).valid
    assert kinds == ["model.suspended", "model.restriction_lifted", "lift.refused"]


@pytest.mark.parametrize("reason", ["", " \n", "\x1b[31mred", "x" * 2001])
def test_what_is_no_reason_changes_nothing(
    client: TestClient, home: LabelledHome, reason: str
) -> None:
    path = f"{DEPLOYMENTS}/north/suspension"
    for refused in (
        client.put(path, json={"reason": reason}),
        client.delete(path, params={"reason": reason}),
        client.delete(f"{DEPLOYMENTS}/north/runtime", params={"reason": reason}),
    ):
        assert refused.status_code == 422
        assert refused.json()["detail"].startswith(("body.reason: ", "query.reason: "))
    with home.driftward.database.reading() as session:
        assert ledger.entries(session, subject="pneumonia") == []


def test_a_reason_of_several_lines_is_kept_as_one(
    client: TestClient, home: LabelledHome
) -> None:
    done = client.put(f"{DEPLOYMENTS}/north/suspension", json={"reason": " odd\nresults "})
    assert done.status_code == 204
    [_, north] = client.get(DEPLOYMENTS).json()
    assert north["out_of_use"] == "odd results"


def test_a_site_s_operator_does_not_end_what_a_plan_restricted(
    client: TestClient, home: LabelledHome
) -> None:
    with home.driftward.database.transaction() as session:
        serving.withhold(
            session,
            model="pneumonia",
            kind=serving.Withholding.RESTRICT,
            subgroup="site=north",
            reason="it failed its watch",
            actor="driftward",
            at=home.driftward.clock.now(),
        )
    refused = client.delete(f"{DEPLOYMENTS}/north/suspension", params={"reason": "busy"})
    assert refused.status_code == 403
    assert refusals(home) == [("lift.refused", "runtime", "NotPermittedError")]

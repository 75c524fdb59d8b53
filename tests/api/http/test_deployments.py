"""A runtime attests by a token of its own site, and what it attested is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
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
        serving.move_champion(
            session,
            version,
            expected=None,
            reason="test",
            kind="champion.promoted",
            actor="test",
            at=now,
        )
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

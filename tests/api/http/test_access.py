"""Who may call what: every route, as every role, with every limit to sites."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from label_reports import image
from labelled_home import LabelledHome
from people import PASSWORD, add_user, disable, make_token

from api.http.access import PUBLIC, READ, Access, declarations
from api.http.app import create_app
from api.http.local_peer import nobody
from registry import ledger
from registry.access import sessions, tokens
from registry.identities import Role, identity_of, require_row

ADDRESS = "http://127.0.0.1:8321"
#: What is refused for want of a role or of a caller; whatever else, the caller was let in.
REFUSED = {401, 403}
#: Routes that nobody need be known for.
PUBLIC_PATHS = {"/healthz", "/readyz", "/sign-in"}
#: Routes for whoever is known, with any role or none.
OWN_PATHS = {"/api/v1/me", "/account", "/account/password", "/sign-out"}
EVERYONE = frozenset(Role)
RECORD = EVERYONE - {Role.VIEWER}
#: Who may call the other routes that not every role may; stated here once more on purpose.
NARROWER = {
    "/ledger": RECORD,
    "/api/v1/ledger/entries": RECORD,
    "POST /api/v1/audit/studies": RECORD,
    "POST /api/v1/audit/patients": RECORD,
    "/api/v1/audit/scans/{scan}": RECORD,
    "/api/v1/audit/models/{name}/standing": RECORD,
    "/api/v1/audit/models/{name}/champions": RECORD,
    "/api/v1/audit/models/{name}/versions/{number}/training": RECORD,
    "/ledger/verification": {Role.OPERATOR, Role.AUDITOR, Role.ADMIN},
    "/api/v1/ledger/verification": {Role.OPERATOR, Role.AUDITOR, Role.ADMIN},
    "/api/v1/label-requests/{number}/worklist": RECORD,
    "/api/v1/users": {Role.AUDITOR, Role.ADMIN},
    "/api/v1/tokens": {Role.AUDITOR, Role.ADMIN},
    "POST /api/v1/labels": {Role.OPERATOR},
    "POST /api/v1/labels/reports": {Role.OPERATOR},
    "PUT /api/v1/models/{name}/deployments/{site}/runtime": {Role.OPERATOR},
    "DELETE /api/v1/models/{name}/deployments/{site}/runtime": {Role.OPERATOR},
    "POST /api/v1/models/{name}/deployments/{site}/attestations": {Role.OPERATOR},
    "PUT /api/v1/models/{name}/deployments/{site}/suspension": {Role.OPERATOR},
    "DELETE /api/v1/models/{name}/deployments/{site}/suspension": {Role.OPERATOR},
    "POST /dicomweb/{site}/studies": {Role.OPERATOR},
    "POST /dicomweb/{site}/studies/{study}": {Role.OPERATOR},
}
#: Lists that show one site where a role is held for some.
BY_SITE = {
    "/api/v1/labels",
    "/api/v1/labels/disputed",
    "/api/v1/labels/agreement",
    "/api/v1/scans",
    "/api/v1/quarantine",
    "POST /api/v1/labels",
    "POST /api/v1/labels/reports",
}


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> LabelledHome:
    """A home with scans of the site north, and a user with a token for each role."""
    home = LabelledHome.founded(tmp_path_factory.mktemp("access"), [image(1), image(2)])
    database, now = home.driftward.database, home.driftward.clock.now()
    for role in Role:
        add_user(database, f"every-{role}", role, at=now, password=None)
        add_user(database, f"north-{role}", role, sites=["north"], at=now, password=None)
        add_user(database, f"south-{role}", role, sites=["south"], at=now, password=None)
    add_user(database, "nothing", at=now, password=None)
    add_user(database, "mei", Role.VIEWER, Role.APPROVER, at=now)
    return home


@pytest.fixture(scope="module")
def shown(founded: LabelledHome) -> dict[str, str]:
    """User -> the header by which they are known."""
    database, now = founded.driftward.database, founded.driftward.clock.now()
    names = ["nothing", *(f"{w}-{role}" for w in ("every", "north", "south") for role in Role)]
    return {name: f"Bearer {make_token(database, name, at=now)}" for name in names}


@pytest.fixture(scope="module")
def app(founded: LabelledHome) -> FastAPI:
    return create_app(founded.driftward, recognise=nobody)


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as made:
        made.follow_redirects = False
        yield made


@pytest.fixture
def home(founded: LabelledHome, tmp_path: Path) -> Iterator[LabelledHome]:
    made = founded.copied(tmp_path)
    yield made
    made.driftward.database.dispose()


@pytest.fixture
def fresh(home: LabelledHome) -> Iterator[TestClient]:
    """Serve a home of the test's own."""
    app = create_app(home.driftward, recognise=nobody)
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as made:
        made.follow_redirects = False
        yield made


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield method and path of every route there is."""
    for route, _ in declarations(app):
        for method in sorted(route.methods):
            yield method, route.path


def named(method: str, path: str) -> str:
    return path if method == "GET" else f"{method} {path}"


def filled(path: str, site: str = "north") -> str:
    path = path.replace("{site}", site)
    return re.sub(r"\{(number|scan)\}", "1", re.sub(r"\{(name|study|item)\}", "1.2", path))


def status(client: TestClient, method: str, path: str, header: str | None) -> int:
    headers = {} if header is None else {"authorization": header}
    # No body that could change anything: whoever is let in is refused for that.
    return client.request(method, path, headers=headers).status_code


def test_every_route_declares_who_may_call_it(app: FastAPI) -> None:
    found = {path for _, path in routes(app)}
    assert len(found) > 50
    assert {"/", "/openapi.json", "/metrics", "/dicomweb/{site}/studies"} <= found


def test_a_route_that_declares_nothing_stops_the_application_from_being_built(
    founded: LabelledHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = APIRouter()
    router.add_api_route("/undeclared", lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr("api.http.jobs.router", router)
        with pytest.raises(TypeError, match="/undeclared declares 0 times"):
            create_app(founded.driftward)
    router.add_api_route("/twice", lambda: None, dependencies=[PUBLIC, READ])
    router.routes.pop(0)
    with monkeypatch.context() as patched:
        patched.setattr("api.http.jobs.router", router)
        with pytest.raises(TypeError, match="/twice declares 2 times"):
            create_app(founded.driftward)


def test_whoever_is_not_known_gets_health_and_the_sign_in_alone(
    app: FastAPI, client: TestClient
) -> None:
    for method, path in routes(app):
        answer = client.request(method, filled(path))
        if path in PUBLIC_PATHS:
            assert answer.status_code not in REFUSED - {403}, path
        elif method == "GET" and answer.status_code == 303:
            assert answer.headers["location"].startswith("/sign-in"), path
            assert not path.startswith("/api/"), path
        else:
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer"), path


@pytest.mark.parametrize("role", Role)
def test_every_route_as_every_role(
    app: FastAPI, client: TestClient, shown: dict[str, str], role: Role
) -> None:
    for method, path in routes(app):
        if path in PUBLIC_PATHS | OWN_PATHS:
            continue
        may = role in NARROWER.get(named(method, path), EVERYONE)
        url = filled(path)
        if named(method, path) in BY_SITE:
            url += "?site=north"
        found = status(client, method, url, shown[f"every-{role}"])
        assert (found not in REFUSED) == may, (method, path, found)


def test_without_a_role_there_is_one_s_own_account_and_nothing_else(
    app: FastAPI, client: TestClient, shown: dict[str, str]
) -> None:
    for method, path in routes(app):
        if path in PUBLIC_PATHS or path in {"/account/password", "/sign-out"}:
            continue
        found = status(client, method, filled(path), shown["nothing"])
        assert (found not in REFUSED) == (path in OWN_PATHS), (method, path, found)


@pytest.mark.parametrize("role", Role)
def test_a_role_for_a_site_opens_that_site_and_no_other(
    app: FastAPI, client: TestClient, shown: dict[str, str], role: Role
) -> None:
    for method, path in routes(app):
        name = named(method, path)
        if role not in NARROWER.get(name, EVERYONE):
            continue
        if name in BY_SITE:
            own, other, none = (
                status(client, method, f"{path}{query}", shown[f"north-{role}"])
                for query in ("?site=north", "?site=south", "")
            )
            assert own not in REFUSED, (name, own)
            assert (other, none) == (403, 403), name
        elif "{site}" in path:
            for site, refused in (("north", False), ("south", True)):
                url = filled(path, site=site)
                found = status(client, method, url, shown[f"north-{role}"])
                assert (found in REFUSED) == refused, (name, site)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/scans/1",
        "/api/v1/scans/1/thumbnail.png",
        "/scans/1",
        "/api/v1/audit/scans/1",
    ],
)
def test_a_scan_is_shown_to_those_of_its_site(
    client: TestClient, shown: dict[str, str], path: str
) -> None:
    for where, expected in (("north", 200), ("every", 200), ("south", 403)):
        user = f"{where}-auditor"
        assert status(client, "GET", path, shown[user]) == expected, user


@pytest.mark.parametrize(
    ("path", "question"),
    [
        ("/api/v1/audit/studies", {"study": "1.2"}),
        ("/api/v1/audit/patients", {"patient": "7"}),
    ],
)
def test_a_question_about_a_site_is_answered_to_those_of_the_site(
    client: TestClient, shown: dict[str, str], path: str, question: dict[str, str]
) -> None:
    for site, refused in (("north", False), ("south", True)):
        answer = client.post(
            path,
            json={"site": site, **question},
            headers={"authorization": shown["north-auditor"]},
        )
        assert (answer.status_code in REFUSED) == refused, (site, answer.text)


@pytest.mark.parametrize("path", ["/scans", "/quarantine"])
def test_a_page_of_all_sites_shows_those_of_the_reader(
    client: TestClient, shown: dict[str, str], path: str
) -> None:
    pages = {
        user: client.get(path, headers={"authorization": shown[user]}).text
        for user in ("north-viewer", "south-viewer")
    }
    assert ("north</td>" in pages["north-viewer"]) == (path == "/scans")
    assert "north</td>" not in pages["south-viewer"]


def test_verifying_all_of_the_record_takes_a_role_for_every_site(
    client: TestClient, shown: dict[str, str]
) -> None:
    url = "/api/v1/ledger/verification"
    assert status(client, "GET", url, shown["north-auditor"]) == 403


@pytest.mark.parametrize("setting", ["open", "loopback", "known"])
def test_figures_are_for_whom_the_setting_says(home: LabelledHome, setting: str) -> None:
    driftward = home.driftward
    driftward.settings = driftward.settings.model_copy(update={"metrics": setting})
    app = create_app(driftward, recognise=nobody)
    outcomes = {}
    for address, header in (("127.0.0.1", None), ("192.0.2.7", None), ("127.0.0.1", "proxy")):
        with TestClient(app, base_url=ADDRESS, client=(address, 50000)) as client:
            headers = {"x-forwarded-for": "192.0.2.7"} if header else {}
            outcomes[address, header] = client.get("/metrics", headers=headers).status_code
    expected = {"open": [200, 200, 200], "loopback": [200, 401, 401], "known": [401, 401, 401]}
    assert list(outcomes.values()) == expected[setting]


def test_a_token_may_come_as_the_password_of_basic(
    client: TestClient, shown: dict[str, str]
) -> None:
    token = shown["every-viewer"].partition(" ")[2]
    header = "Basic " + base64.b64encode(f"whoever:{token}".encode()).decode()
    assert status(client, "GET", "/api/v1/me", header) == 200
    password = "Basic " + base64.b64encode(f"mei:{PASSWORD}".encode()).decode()
    for wrong in (password, "Basic !", "Digest x", "Bearer ", "Bearer x"):
        assert status(client, "GET", "/api/v1/me", wrong) == 401, wrong


def test_a_token_that_is_over_opens_nothing(home: LabelledHome, fresh: TestClient) -> None:
    database, now = home.driftward.database, home.driftward.clock.now()
    revoked, expired, left = (
        make_token(database, "every-viewer", at=now - timedelta(days=days))
        for days in (0, 31, 0)
    )
    with database.transaction() as session:
        owner = identity_of(require_row(session, "every-viewer"))
        tokens.revoke(session, revoked.split("_")[1], reason="lost", by=owner, at=now)
    for text, why in ((revoked, "was revoked"), (expired, "expired")):
        answer = fresh.get("/api/v1/models", headers={"authorization": f"Bearer {text}"})
        assert answer.status_code == 401
        assert why in answer.json()["detail"]
        assert text not in answer.text
    disable(database, "every-viewer", at=now)
    assert status(fresh, "GET", "/api/v1/models", f"Bearer {left}") == 401


# Sign-in


def sign_in(client: TestClient, name: str = "mei", password: str = PASSWORD, to: str = "/"):
    return client.post("/sign-in", data={"name": name, "password": password, "to": to})


def form_key(client: TestClient) -> str:
    found = re.search(r'name="form_key" value="([0-9a-f]{64})"', client.get("/account").text)
    assert found is not None
    return found.group(1)


def test_a_person_signs_in_reads_and_signs_out(fresh: TestClient) -> None:
    asked = fresh.get("/runs?x=1")
    assert asked.headers["location"] == "/sign-in?to=%2Fruns%3Fx%3D1"
    answer = sign_in(fresh, to="/runs?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?x=1")
    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert "Secure" not in cookie
    assert fresh.get("/runs").status_code == 200
    assert fresh.get("/api/v1/me").json()["known_by"] == "session"
    assert fresh.post("/sign-out", data={"form_key": "0" * 64}).status_code == 403
    assert fresh.get("/runs").status_code == 200
    kept = dict(fresh.cookies)
    assert fresh.post("/sign-out", data={"form_key": form_key(fresh)}).status_code == 303
    fresh.cookies.update(kept)  # whoever copied the cookie is out, too
    assert fresh.get("/runs").status_code == 303


def test_over_tls_the_cookie_is_for_tls_alone(home: LabelledHome) -> None:
    app = create_app(home.driftward, recognise=nobody)
    with TestClient(app, base_url="https://127.0.0.1:8321", follow_redirects=False) as client:
        assert "Secure" in sign_in(client).headers["set-cookie"]


def test_behind_a_proxy_that_encrypts_the_cookie_is_for_tls_alone(home: LabelledHome) -> None:
    driftward = home.driftward
    driftward.settings = driftward.settings.model_copy(
        update={"public_url": "https://driftward.example"}
    )
    # Even where everybody looks local: what comes through a proxy is nobody's.
    app = create_app(driftward, hosts=["driftward.example"], recognise=lambda _: True)
    with TestClient(app, base_url="http://driftward.example") as client:
        client.follow_redirects = False
        assert client.get("/api/v1/me").status_code == 401
        answer = client.post(
            "/sign-in",
            data={"name": "mei", "password": PASSWORD},
            headers={"origin": "https://driftward.example"},
        )
        assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("name", "password"), [("mei", "not the right one"), ("ghost", PASSWORD), ("", "")]
)
def test_whatever_is_wrong_is_told_in_one_way(
    fresh: TestClient, name: str, password: str
) -> None:
    answer = sign_in(fresh, name, password)
    assert answer.status_code == 401
    assert "Name or password is wrong." in answer.text
    assert "set-cookie" not in answer.headers
    assert PASSWORD not in answer.text


def test_too_many_failures_close_the_door_for_a_while(
    home: LabelledHome, fresh: TestClient
) -> None:
    for _ in range(5):
        assert sign_in(fresh, password="not the right one").status_code == 401
    closed = sign_in(fresh)
    assert (closed.status_code, closed.headers["retry-after"]) == (429, "900")
    with home.driftward.database.reading() as session:
        failed = ledger.entries(session, kind="sign_in.failed")
        assert [entry.subject for entry in failed] == ["mei"] * 5


@pytest.mark.parametrize(
    "to", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\nb"]
)
def test_the_way_back_never_leads_elsewhere(fresh: TestClient, to: str) -> None:
    assert sign_in(fresh, to=to).headers["location"] == "/"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(
    home: LabelledHome, fresh: TestClient, headers: dict[str, str]
) -> None:
    assert sign_in(fresh).status_code == 303
    forms = {"/sign-out": {}, "/account/password": {}, "/sign-in": {"name": "mei"}}
    for path, fields in forms.items():
        answer = fresh.post(path, data={"form_key": form_key(fresh), **fields}, headers=headers)
        assert answer.status_code == 403, path
    local = create_app(home.driftward, recognise=lambda _: True)
    with TestClient(local, base_url=ADDRESS) as client:
        answer = client.post("/api/v1/labels?site=north", json={"labels": []}, headers=headers)
        assert answer.status_code == 403


def test_a_session_ends_when_its_owner_is_disabled_or_rests(
    home: LabelledHome, fresh: TestClient
) -> None:
    assert sign_in(fresh).status_code == 303
    clock = home.driftward.clock
    clock.at += timedelta(minutes=20)  # type: ignore[attr-defined]
    assert fresh.get("/runs").status_code == 200
    clock.at += timedelta(minutes=20)  # type: ignore[attr-defined]
    assert fresh.get("/runs").status_code == 200
    clock.at += sessions.REST  # type: ignore[attr-defined]
    assert fresh.get("/runs").status_code == 303
    assert sign_in(fresh).status_code == 303
    disable(home.driftward.database, "mei", at=clock.now())
    assert fresh.get("/runs").status_code == 303


def test_a_first_password_is_good_for_choosing_another_and_nothing_else(
    home: LabelledHome, fresh: TestClient
) -> None:
    from people import ADMIN

    from registry.access import users

    with home.driftward.database.transaction() as session:
        row = require_row(session, "mei")
        users.set_password(
            session, row, "chosen by an admin", by=ADMIN, at=home.driftward.clock.now()
        )
    answer = sign_in(fresh, password="chosen by an admin")
    assert answer.headers["location"] == "/account"
    refused = fresh.get("/runs")
    assert refused.status_code == 403
    assert "first password" in refused.text
    fields = {
        "form_key": form_key(fresh),
        "before": "chosen by an admin",
        "after": "a wholly new one",
        "again": "a wholly new one",
    }
    for wrong in ({"again": "another one, longer"}, {"before": "no"}, {"after": "x"}):
        assert fresh.post("/account/password", data={**fields, **wrong}).status_code == 422, (
            wrong
        )
    assert fresh.post("/account/password", data=fields).status_code == 303
    assert fresh.get("/runs").status_code == 200


def test_what_moves_on_a_page_sends_the_whole_page_to_the_sign_in(client: TestClient) -> None:
    answer = client.get("/runs/1/progress", headers={"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/sign-in")


def test_a_declaration_is_a_dependency(app: FastAPI) -> None:
    for route, access in declarations(app):
        assert isinstance(route, APIRoute)
        assert isinstance(access, Access)

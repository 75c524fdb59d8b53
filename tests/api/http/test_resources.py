"""What the resources say, against the history that they are about."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from believable_home import NEW_SOFTWARE, Stage
from fastapi.testclient import TestClient
from local_client import everybody
from PIL import Image
from sqlalchemy import update

from api.assembly import Driftward
from api.http.app import create_app
from monitor.tables import LabelRow

if TYPE_CHECKING:
    from tests.api.conftest import CopyHome, Serve


def test_lineage_leads_from_a_version_to_its_bases_and_back(serve: Serve) -> None:
    client = serve(Stage.HEALED)
    found = client.get("/api/v1/models/pneumonia-cxr/versions/2/lineage").json()
    assert [part["name"] for part in found["ancestors"]] == [
        "pneumonia-cxr@1",
        "general-imagenet@1",
    ]
    base = client.get("/api/v1/models/general-imagenet/versions/1/lineage").json()
    assert [part["name"] for part in base["descendants"]] == [
        "pneumonia-cxr@1",
        "pneumonia-cxr@2",
    ]


def test_an_open_episode_names_cause_subgroup_and_what_was_decided(serve: Serve) -> None:
    client = serve(Stage.OPEN)
    (episode,) = client.get("/api/v1/episodes", params={"state": "open"}).json()
    assert episode["cause"] == "acquisition"
    assert episode["subgroup"] == f"software_version={NEW_SOFTWARE}"
    assert {item["action"] for item in episode["decisions"]} == {"restrict", "label request"}
    (restriction,) = client.get("/api/v1/models/pneumonia-cxr").json()["restrictions"]
    assert restriction["subgroup"] == episode["subgroup"]
    assert client.get("/api/v1/episodes", params={"state": "closed"}).json() == []


def test_a_run_shows_gates_data_and_the_approvals_that_it_lacks(serve: Serve) -> None:
    waiting = serve(Stage.AWAITING_APPROVAL).get("/api/v1/runs/2").json()
    assert waiting["missing_approvals"] == 1
    assert {gate["outcome"] for gate in waiting["gates"]} == {"passed"}
    assert {item["purpose"] for item in waiting["datasets"]} == {
        "training",
        "selection",
        "locked drifted",
        "locked reference",
    }
    promoted = serve(Stage.HEALED).get("/api/v1/runs/2").json()
    assert (promoted["state"], promoted["missing_approvals"]) == ("promoted", 0)
    assert promoted["signatures"][0]["by"] == "Mei Tanaka"


def test_verdicts_can_be_had_by_subgroup_and_page_by_page(serve: Serve) -> None:
    client = serve(Stage.HEALED)
    where = "/api/v1/monitors/pneumonia-cxr/verdicts"
    whole = client.get(where, params={"subgroup": ""}).json()
    assert {verdict["subgroup"] for verdict in whole} == {""}
    first = client.get(where, params={"subgroup": "", "limit": 5}).json()
    rest = client.get(where, params={"subgroup": "", "before": first[-1]["id"]}).json()
    assert first + rest == whole
    shifted = client.get(where, params={"subgroup": f"software_version={NEW_SOFTWARE}"}).json()
    assert shifted[-1]["p_value"] < 0.001
    assert shifted[-1]["effect_low"] > 0
    assert shifted[-1]["detectors"]


def test_a_thumbnail_is_a_gray_png_without_metadata(serve: Serve) -> None:
    answer = serve(Stage.HEALED).get("/api/v1/scans/3/thumbnail.png")
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.mode == "L"
        assert max(picture.size) == 192
        assert picture.info == {}
        assert np.ptp(np.asarray(picture)) > 50


def test_a_scan_whose_pixels_are_gone_says_so(
    copied_home: CopyHome,
) -> None:
    home = copied_home(Stage.CALM)
    shutil.rmtree(home.home / "vault")
    driftward = Driftward.open(home)
    with TestClient(
        create_app(driftward, recognise=everybody), base_url="http://localhost"
    ) as client:
        answer = client.get("/api/v1/scans/3/thumbnail.png")
    driftward.database.dispose()
    assert answer.status_code == 404
    assert "removed by retention" in answer.json()["detail"]


def test_entries_come_newest_first_and_can_be_filtered(serve: Serve) -> None:
    client = serve(Stage.HEALED)
    newest = client.get("/api/v1/ledger/entries", params={"limit": 3}).json()
    sequences = [entry["sequence"] for entry in newest]
    assert sequences == sorted(sequences, reverse=True)
    older = client.get(
        "/api/v1/ledger/entries", params={"limit": 3, "before": sequences[-1]}
    ).json()
    assert older[0]["sequence"] == sequences[-1] - 1
    promoted = client.get("/api/v1/ledger/entries", params={"kind": "champion.promoted"}).json()
    assert [entry["subject"] for entry in promoted] == ["pneumonia-cxr@2", "pneumonia-cxr@1"]
    of_run = client.get("/api/v1/ledger/entries", params={"subject": "run 2"}).json()
    assert {entry["subject"] for entry in of_run} == {"run 2"}


@pytest.mark.parametrize("stage", list(Stage))
def test_the_ledger_of_every_stage_verifies(serve: Serve, stage: Stage) -> None:
    found = serve(stage).get("/api/v1/ledger/verification").json()
    assert found["valid"], found["fault"]
    assert found["fault"] is None
    assert found["entries"] > 0


def test_an_edited_label_is_named_by_entry_and_row(
    copied_home: CopyHome,
) -> None:
    driftward = Driftward.open(copied_home(Stage.CALM))
    with driftward.database.transaction() as session:
        session.execute(update(LabelRow).where(LabelRow.id == 7).values(value=0, reader="x"))
    with TestClient(
        create_app(driftward, recognise=everybody), base_url="http://localhost"
    ) as client:
        found = client.get("/api/v1/ledger/verification").json()
        page = client.get("/ledger").text
        fleet = client.get("/").text
    driftward.database.dispose()
    assert not found["valid"]
    assert "labels/7" in found["fault"]["problem"]
    assert "The record does not stand" in page
    assert "does not verify" in fleet


def test_jobs_can_be_had_by_state_and_kind(serve: Serve) -> None:
    client = serve(Stage.HEALED)
    done = client.get("/api/v1/jobs", params={"state": "done", "kind": "measure"}).json()
    assert done
    assert {(job["state"], job["kind"]) for job in done} == {("done", "measure")}
    assert client.get("/api/v1/jobs", params={"state": "asleep"}).status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/scans/{}",
        "/api/v1/scans/{}/thumbnail.png",
        "/api/v1/episodes/{}",
        "/api/v1/runs/{}",
        "/api/v1/jobs/{}",
        "/api/v1/models/pneumonia-cxr/versions/{}",
    ],
)
@pytest.mark.parametrize("number", [0, -1, 2**63])
def test_numbers_that_no_row_can_have_are_refused(serve: Serve, path: str, number: int) -> None:
    answer = serve(Stage.EMPTY).get(path.format(number))
    assert answer.status_code == 422

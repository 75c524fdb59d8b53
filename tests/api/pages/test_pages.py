"""Every page at every stage of a believable history."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from believable_home import PSEUDONYM, Stage
from fastapi.testclient import TestClient
from local_client import everybody
from sqlalchemy.orm import Session

from api.assembly import Driftward
from api.http.app import create_app
from api.pages.fleet import fleet
from api.pages.run_page import run_page
from registry.identities import SYSTEM
from retrain import runs
from retrain.states import RunState
from retrain.workspace import Progress, append_progress

if TYPE_CHECKING:
    from tests.api.conftest import CopyHome, Open, Serve

LISTS = ["/", "/monitors", "/runs", "/models", "/scans", "/quarantine", "/ledger"]
MONITOR = "/monitors/pneumonia-cxr"


class Page(HTMLParser):
    """A page as a reader or a crawler meets it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.links: set[str] = set()
        self.sources: set[str] = set()
        self.charts: list[dict[str, str | None]] = []
        self.identifiers: list[str] = []
        self.unnamed: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag == "a" and values.get("href", "").startswith("/"):  # type: ignore[union-attr]
            self.links.add(str(values["href"]))
        if tag in {"img", "script"} and values.get("src"):
            self.sources.add(str(values["src"]))
        if tag == "link":
            self.sources.add(str(values["href"]))
        if "data-chart" in values:
            self.charts.append(values)
        if values.get("id"):
            self.identifiers.append(str(values["id"]))
        if tag == "img" and not values.get("alt"):
            self.unnamed.append("img")
        if tag == "svg" and not (values.get("aria-label") or values.get("aria-hidden")):
            self.unnamed.append("svg")

    def data(self, identifier: str) -> Any:
        found = re.search(
            rf'<script type="application/json" id="{identifier}">(.*?)</script>', self.text
        )
        assert found is not None, identifier
        return json.loads(found.group(1))

    @property
    def title(self) -> str:
        found = re.search(r"<h1>(.*?)</h1>", self.text, re.DOTALL)
        assert found is not None
        return found.group(1)

    @property
    def line(self) -> str:
        found = re.search(r'<p class="line">(.*?)</p>', self.text, re.DOTALL)
        assert found is not None
        return found.group(1)


def page(client: TestClient, path: str) -> Page:
    answer = client.get(path)
    assert answer.status_code == 200, (path, answer.text)
    return Page(answer.text)


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("path", LISTS)
def test_every_list_answers_at_every_stage(serve: Serve, stage: Stage, path: str) -> None:
    found = page(serve(stage), path)
    assert "UTC</time>" in found.text
    assert PSEUDONYM not in found.text
    assert found.unnamed == []
    assert len(found.identifiers) == len(set(found.identifiers))


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("/", "driftward model import"),
        ("/monitors", "driftward monitor apply"),
        ("/runs", "driftward run start"),
        ("/models", "driftward model import"),
        ("/scans", "driftward scan add"),
    ],
)
def test_an_empty_page_says_what_to_do(serve: Serve, path: str, command: str) -> None:
    assert command in page(serve(Stage.EMPTY), path).text


@pytest.mark.parametrize("stage", [Stage.FOUNDED, Stage.OPEN, Stage.HEALED])
def test_every_link_picture_and_asset_leads_somewhere(serve: Serve, stage: Stage) -> None:
    client = serve(stage)
    seen: set[str] = set()
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        if path.startswith("/scans/") and len([p for p in seen if p.startswith("/scans/")]) > 4:
            continue
        if path in {"/metrics", "/openapi.json", "/readyz"}:
            continue  # tried elsewhere
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert PSEUDONYM not in answer.text, path
        if answer.headers["content-type"].startswith("text/html"):
            found = Page(answer.text)
            waiting += found.links | found.sources
            assert found.unnamed == [], path
    assert {MONITOR, "/models/pneumonia-cxr"} <= seen


TITLES = {
    Stage.FOUNDED: "pneumonia-cxr is not watched yet: there is no reference",
    Stage.CALM: "Scans look like the reference",
    Stage.OPEN: "Scans of software version 5.8 no longer look like the reference",
    Stage.TRAINING: "Scans of software version 5.8 no longer look like the reference",
    Stage.AWAITING_APPROVAL: "Scans of software version 5.8 no longer look like the reference",
    Stage.HEALED: (
        "The change in scans of software version 5.8 is accepted; pneumonia-cxr@2 reads them"
    ),
}


@pytest.mark.parametrize(("stage", "title"), TITLES.items())
def test_the_title_says_what_is_the_matter(serve: Serve, stage: Stage, title: str) -> None:
    assert page(serve(stage), MONITOR).title == title


def test_the_line_says_since_when_what_it_does_and_what_was_done(serve: Serve) -> None:
    before = page(serve(Stage.OPEN), MONITOR).line
    assert before == (
        "Acquisition change since 9 Mar 2026; impact suspected, not measured yet. "
        "The model is restricted for software version 5.8."
    )
    after = page(serve(Stage.TRAINING), MONITOR).line
    assert re.search(r"specificity fell from \.\d\d to \.\d\d there", after)


def test_after_the_repair_the_line_shows_labels_and_the_unbroken_trend(serve: Serve) -> None:
    line = page(serve(Stage.HEALED), MONITOR).line
    assert re.search(r"AUC on new labels \.\d\d \(\.\d\d–[.\d]+\), n 380\.", line)
    assert re.search(
        r"still there in the fixed encoder \(effect \d\.\d\d\), and accepted", line
    )


def test_a_calm_day_says_what_a_window_would_have_shown(serve: Serve) -> None:
    assert re.search(
        r"an effect of \d\.\d\d would have shown", page(serve(Stage.CALM), MONITOR).line
    )


def test_the_one_action_is_to_approve_and_gone_once_it_is_done(serve: Serve) -> None:
    waiting = page(serve(Stage.AWAITING_APPROVAL), MONITOR)
    assert '<a class="button primary" href="/runs/2">Approve run 2</a>' in waiting.text
    assert 'class="button' not in page(serve(Stage.HEALED), MONITOR).text
    run = page(serve(Stage.AWAITING_APPROVAL), "/runs/2")
    assert run.title == "pneumonia-cxr@2 passed every gate; 1 approval needed"
    assert "driftward approve 2" in run.text


def test_behind_every_chart_stands_a_table_with_the_same_windows(serve: Serve) -> None:
    found = page(serve(Stage.HEALED), MONITOR)
    assert {chart["data-chart"] for chart in found.charts} == {
        "drift",
        "labelled",
        "projection",
    }
    for chart in found.charts:
        assert chart["role"] == "img"
        assert chart["aria-label"]
    drift = found.data("drift-data")
    assert len(drift["windows"]) == 6
    for item in drift["windows"]:
        assert item["name"] in found.text
        assert f"{item['trend']['effect']:.2f} (" in found.text
    weeks = found.data("labelled-data")["weeks"]
    assert [week["version"] for week in weeks] == ["pneumonia-cxr@1"] * 2 + ["pneumonia-cxr@2"]


def test_the_trend_runs_through_the_promotion_and_the_champion_s_line_does_not(
    serve: Serve,
) -> None:
    drift = page(serve(Stage.HEALED), MONITOR).data("drift-data")
    assert all(item["trend"] for item in drift["windows"])
    shifted = [item["trend"]["effect"] for item in drift["windows"][2:]]
    assert min(shifted) > 1.0
    versions = [item["version"] for item in drift["windows"]]
    assert versions == ["pneumonia-cxr@1"] * 4 + ["pneumonia-cxr@2"] * 2
    assert drift["windows"][-1]["champion"]["effect"] < 1.0
    assert [item["version"] for item in drift["promotions"]] == ["pneumonia-cxr@2"]
    (episode,) = drift["episodes"]
    assert not episode["open"]
    assert [item["alarm"] for item in drift["windows"]] == [False] * 3 + [True] + [False] * 2


def test_the_map_marks_the_subgroup_that_moved_and_leaves_gaps_where_it_was_absent(
    serve: Serve,
) -> None:
    text = page(serve(Stage.OPEN), MONITOR).text
    row = re.search(r'title="software version 5\.8".*?</tr>', text, re.DOTALL)
    assert row is not None
    assert row.group().count("too few scans</span>") == 2
    assert row.group().count(" moved") >= 2
    old = re.search(r'title="software version 5\.7".*?</tr>', text, re.DOTALL)
    assert old is not None
    assert " moved" not in old.group()


def test_an_episode_s_address_leads_to_its_monitor_s_page(serve: Serve) -> None:
    client = serve(Stage.HEALED)
    answer = client.get("/episodes/1", follow_redirects=False)
    assert answer.headers["location"] == f"{MONITOR}?episode=1"
    assert client.get("/episodes/9").status_code == 404
    assert client.get(MONITOR, params={"episode": 9}).status_code == 404


def test_the_fleet_names_whom_it_needs(serve: Serve) -> None:
    calm = page(serve(Stage.CALM), "/")
    assert calm.line == "2 models at 2 sites. None needs you now."
    waiting = page(serve(Stage.AWAITING_APPROVAL), "/")
    assert waiting.line == "2 models at 2 sites. One needs you now: pneumonia-cxr."
    assert "restricted: software version 5.8" in waiting.text
    assert "Approve run 2" in waiting.text


def test_a_promoted_run_shows_its_gates_with_interval_margin_and_sentence(
    serve: Serve,
) -> None:
    text = page(serve(Stage.HEALED), "/runs/2").text
    assert "Superior where it drifted" in text
    assert "+27.0 to +55.0" in text
    assert "not inferior by a margin of 10.0 points" in text
    assert "saw what stands now" in text


def test_a_training_run_tells_how_far_it_is_and_asks_again(
    copied_home: CopyHome,
) -> None:
    driftward = Driftward.open(copied_home(Stage.TRAINING))
    folder = driftward.home.work / "run-2"
    folder.mkdir()
    told = Progress(epoch=2, epochs=5, step=4, steps=8, loss=0.312, selection_auc=None)
    append_progress(folder, told)
    with TestClient(
        create_app(driftward, recognise=everybody), base_url="http://localhost"
    ) as client:
        text = page(client, "/runs/2").text
        part = client.get("/runs/2/progress")
    driftward.database.dispose()
    assert 'hx-get="/runs/2/progress"' in text
    assert '<progress max="100" value="50">50 %</progress>' in text
    assert "epoch 3 of 5" in text
    assert "hx-refresh" not in part.headers
    assert "<html" not in part.text


def test_the_moving_part_of_a_run_that_ended_asks_for_the_whole_page(serve: Serve) -> None:
    ended = serve(Stage.HEALED).get("/runs/2/progress")
    assert ended.headers["hx-refresh"] == "true"
    assert "hx-get" not in ended.text


def test_lineage_shows_what_was_derived_from_what_and_who_approved(serve: Serve) -> None:
    text = page(serve(Stage.HEALED), "/models").text
    for words in ("general-imagenet@1", "pneumonia-cxr@2", "approved by Mei Tanaka", "run 2"):
        assert words in text
    assert text.count('class="arrow"') == 2


def test_refusals_are_counted_by_reason_without_a_value_of_the_scan(serve: Serve) -> None:
    client = serve(Stage.CALM)
    text = page(client, "/scans").text
    assert "Modality is not CR or DX" in text
    assert "Age above 5 years" in text
    refused = page(client, "/scans?refused=true").text
    assert refused.count('<span class="state warn">') == 9


def test_scans_and_entries_can_be_paged_to_the_first(serve: Serve) -> None:
    client = serve(Stage.HEALED)
    for start in ("/scans?refused=true", "/ledger", "/ledger?kind=scans.added"):
        path, pages = start, 0
        while True:
            text = page(client, path).text
            pages += 1
            older = re.search(r'class="pager"><a href="(.*?)"', text)
            if older is None:
                break
            path = start.partition("?")[0] + older.group(1).replace("&amp;", "&")
        assert pages <= 3
    assert "home.initialised" in page(client, "/ledger?before=3").text


def test_the_ledger_is_verified_on_the_button_with_or_without_a_script(
    serve_afresh: Serve,
) -> None:
    client = serve_afresh(Stage.CALM)
    assert "has not been verified since this server started" in page(client, "/ledger").text
    part = client.get("/ledger/verification", headers={"hx-request": "true"})
    assert "The record stands." in part.text
    assert "<html" not in part.text
    whole = client.get("/ledger/verification")
    assert whole.url.path == "/ledger"
    assert "The record stands." in whole.text


def test_what_a_person_wrote_is_shown_as_text_and_never_as_markup(serve: Serve) -> None:
    answer = serve(Stage.CALM).get("/ledger", params={"subject": '"><script>alert(1)</script>'})
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text


def test_a_run_that_failed_asks_for_a_person_on_the_fleet(open_home: Open) -> None:
    driftward = open_home(Stage.TRAINING)
    with Session(driftward.database.engine) as session:  # which nobody commits
        row = runs.require_run(session, 2)
        runs.advance(
            session,
            row,
            RunState.FAILED,
            note="the training subprocess ended early",
            actor=SYSTEM.name,
            at=driftward.clock.now(),
        )
        (first, *_) = fleet(session, now=driftward.clock.now()).rows
        view = run_page(session, driftward.home.work, 2, now=driftward.clock.now())
    assert first.standing.next_step.text == "Run 2 failed: look at it"
    assert view.headline == "Run 2 failed"
    assert [item.present for item in view.course.milestones][-1]

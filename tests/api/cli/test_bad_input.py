from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from databases import on_sqlite
from sqlalchemy import event

from registry.bundles.bundle import Bundle
from registry.database import Database
from registry.reasons import stated

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run

CONFIGURATION = files("api.demo") / "configuration"

# MLflow's own, of its queries under SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("model", "show", "chest@1"), "there is no version chest@1: no model has that name"),
        (("model", "show", "chest"), "'chest' is not a version: write NAME@NUMBER"),
        (("model", "lineage", "chest@1"), "there is no version chest@1"),
        (("model", "descendants", "chest@1"), "there is no version chest@1"),
        (("monitor", "show", "chest"), "there is no monitor chest"),
        (("check", "chest"), "there is no monitor chest"),
        (("reference", "build", "chest"), "there is no monitor chest"),
        (("scan", "show", 7), "there is no scan 7: see `driftward scan list`"),
        (("episode", "show", 7), "there is no episode 7: see `driftward episode list`"),
        (("episode", "close", 7, "--reason", "over"), "there is no episode 7"),
        (("run", "show", 7), "there is no run 7: see `driftward run list`"),
        (("run", "cancel", 7, "--reason", "late"), "there is no run 7"),
        (("approve", 7, "--reason", "seen"), "there is no run 7"),
        (("reject", 7, "--reason", "seen"), "there is no run 7"),
        (("plan", "show", "chest"), "model chest has no change plan, so it is locked"),
        (("promote", "chest@1"), "there is no version chest@1"),
        (("rollback", "chest", "--reason", "bad"), "chest"),
        (("suspend", "chest", "--reason", "bad"), "there is no model chest"),
        (("restrict", "chest", "--subgroup", "view", "--reason", "bad"), "ATTRIBUTE=VALUE"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_does_not_exist_is_named_on_stderr_and_nothing_changes(
    driftward: Run, home: Path, words: tuple[object, ...], problem: str
) -> None:
    before = driftward("audit", "verify", "--json").document
    done = driftward(*words)
    assert done.code == 1
    assert done.stderr.startswith("driftward: ")
    assert problem in done.stderr
    assert done.stdout == ""
    assert driftward("audit", "verify", "--json").document == before


@pytest.mark.parametrize(
    "words",
    [
        ("divine",),
        ("scan", "divine"),
        ("scan", "add"),
        ("scan", "add", "somewhere"),
        ("scan", "show", "first"),
        ("approve", "1"),
        ("audit", "verify", "--by", "somebody"),
        ("promote", "chest@1", "--as", "somebody"),
    ],
    ids=" ".join,
)
def test_misuse_is_2_and_says_how_it_is_used(
    driftward: Run, home: Path, words: tuple[str, ...]
) -> None:
    done = driftward(*words)
    assert done.code == 2
    assert "Usage: " in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("reason", "problem"),
    [
        (" \n ", "say why"),
        ("x" * 2001, "2,001 characters are no reason but a document: say it in at most 2,000"),
        ("\x1b[31mred", "a terminal's control codes"),
        ("\udcff", "characters that are no text"),
    ],
)
@pytest.mark.parametrize(
    "words", [("episode", "close", "1"), ("monitor", "silence", "chest", "--close", "1")]
)
def test_a_reason_that_cannot_be_kept_is_refused(
    driftward: Run, home: Path, words: tuple[str, ...], reason: str, problem: str
) -> None:
    done = driftward(*words, "--reason", reason)
    assert done.code == 2
    shown = " ".join(done.stderr.replace("│", " ").split())
    assert problem in shown or ("takes a --reason" in shown and not reason.strip())


def test_a_reason_of_several_lines_is_kept_as_one() -> None:
    assert stated(" seen\n\tby the\u00a0physicist \u2013 \u200bfine") == (
        "seen by the physicist \u2013 \u200bfine"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("scan", "list"),
        ("scan", "quarantine"),
        ("model", "list"),
        ("monitor", "list"),
        ("episode", "list"),
        ("run", "list"),
        ("audit", "verify"),
    ],
    ids=" ".join,
)
def test_json_is_one_document_on_stdout_and_nothing_beside_it(
    driftward: Run, home: Path, words: tuple[str, ...]
) -> None:
    done = driftward(*words, "--json")
    assert done.code == 0
    json.loads(done.stdout)
    assert done.stderr == ""
    assert driftward(*words).code == 0


#: command -> a file that the demo puts into force with it
TEXTS = {
    ("plan", "apply"): "plan.yaml",
    ("monitor", "apply"): "monitor.yaml",
    ("run", "start"): "recipe.yaml",
}


@pytest.mark.parametrize("words", TEXTS, ids=" ".join)
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"a: [1,", "not YAML"),
        (b"- 1\n- 2\n", ""),
        (b"", ""),
    ],
    ids=["absent", "binary", "not YAML", "a list", "empty"],
)
def test_a_file_that_is_not_what_it_must_be_is_named_with_what_is_wrong(
    driftward: Run,
    home: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    content: bytes | None,
    problem: str,
) -> None:
    file = tmp_path / "input.yaml"
    if content is not None:
        file.write_bytes(content)
    done = driftward(*words, file)
    assert done.code == 1
    assert "input.yaml" in done.stderr
    assert problem in done.stderr


@pytest.mark.parametrize(("words", "name"), TEXTS.items(), ids=str)
def test_an_unknown_key_is_named(
    driftward: Run, home: Path, tmp_path: Path, words: tuple[str, ...], name: str
) -> None:
    file = tmp_path / name
    file.write_text((CONFIGURATION / name).read_text(encoding="utf-8") + "\nfrequency: 3\n")
    done = driftward(*words, file)
    assert done.code == 1
    assert name in done.stderr
    assert "frequency" in done.stderr


def test_a_malformed_plan_is_named_by_line_and_leaves_the_one_in_force(
    driftward: Run, home: Path, tmp_path: Path
) -> None:
    good = (CONFIGURATION / "plan.yaml").read_text(encoding="utf-8")
    file = tmp_path / "plan.yaml"
    file.write_text(good)
    assert driftward("plan", "apply", file).code == 0
    file.write_text(good.replace("authority: research", "authority: hope"))
    line = next(n for n, text in enumerate(good.splitlines(), 1) if "authority:" in text)
    done = driftward("plan", "apply", file)
    assert done.code == 1
    assert f"plan.yaml:{line}: authority" in done.stderr
    shown = driftward("plan", "show", "pneumonia-cxr", "--json").document
    assert (shown["plan"], shown["authority"]) == (1, "research")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe", "not UTF-8"),
        (b"who,what\n", "lacks the column"),
    ],
)
def test_a_label_file_that_cannot_be_used_is_named(
    driftward: Run, home: Path, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "labels.csv"
    if content is not None:
        file.write_bytes(content)
    done = driftward("label", "import", file, "--site", "north")
    assert done.code == 1
    assert "labels.csv" in done.stderr
    assert problem in done.stderr


def test_a_bundle_is_imported_listed_and_shown(
    driftward: Run, home: Path, general_bundle: Bundle
) -> None:
    words = ("model", "import", general_bundle.root, "--name", "general", "--tier", "general")
    done = driftward(*words, "--json")
    assert done.code == 0
    assert done.document == {"version": "general@1", "digest": general_bundle.digest}
    assert driftward("model", "show", "general@1", "--json").document["tier"] == "general"
    assert "general@1" in driftward("model", "list").stdout
    again = driftward(*words)
    assert again.code == 1
    assert "already registered, as general@1" in again.stderr
    assert driftward("audit", "verify", "--json").document["valid"] is True


def test_a_tier_that_is_not_the_card_s_is_refused(
    driftward: Run, home: Path, general_bundle: Bundle
) -> None:
    for tier in ("task", "colossal"):
        done = driftward("model", "import", general_bundle.root, "--name", "x", "--tier", tier)
        assert done.code == 1
        assert f"its card states the tier general, not {tier}" in done.stderr
    assert driftward("model", "list", "--json").document == []


def test_a_directory_that_is_no_bundle_is_refused(
    driftward: Run, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for directory, problem in (
        (tmp_path / "empty", "bundle lacks"),
        (tmp_path / "absent", "is not a directory, so no bundle"),
        (home, "is not part of a bundle"),
    ):
        done = driftward("model", "import", directory, "--name", "x", "--tier", "general")
        assert done.code == 1
        assert problem in done.stderr


def test_an_incomplete_card_is_refused_with_all_that_it_lacks(
    driftward: Run, home: Path, tmp_path: Path, general_bundle: Bundle
) -> None:
    copied = Path(shutil.copytree(general_bundle.root, tmp_path / "bundle"))
    lines = (copied / "card.yaml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("licence", "purpose"))]
    (copied / "card.yaml").write_text("\n".join(kept))
    done = driftward("model", "import", copied, "--name", "x", "--tier", "general")
    assert done.code == 1
    assert "lacks purpose, licence: fill these in, then import again" in done.stderr


@on_sqlite
def test_a_database_without_room_fails_the_command_and_keeps_nothing(
    driftward: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Database.__init__

    def without_room(self: Database, url: str) -> None:
        made(self, url)
        # SQLite raises it to the pages that there are: the file may not grow.
        event.listen(
            self.engine,
            "connect",
            lambda connection, _: connection.execute("PRAGMA max_page_count=1"),
        )

    file = tmp_path / "plan.yaml"
    text = (CONFIGURATION / "plan.yaml").read_text(encoding="utf-8")
    file.write_text(text + "# a long remark\n" * 5000)
    before = driftward("audit", "verify", "--json").document
    with monkeypatch.context() as patched:
        patched.setattr(Database, "__init__", without_room)
        done = driftward("plan", "apply", file)
    assert done.code == 1
    assert (
        "disk that holds the database is full: nothing of this change was kept" in done.stderr
    )
    assert driftward("audit", "verify", "--json").document == before
    assert driftward("plan", "apply", file).code == 0


def test_the_ledger_names_whoever_is_bound_to_the_user(
    driftward: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text((CONFIGURATION / "plan.yaml").read_text(encoding="utf-8"))
    monkeypatch.setenv("LOGNAME", "root")  # which says nothing: the kernel is asked
    monkeypatch.setattr(
        "registry.access.signing_in.operating_system_user", lambda: "somebody-else"
    )
    done = driftward("plan", "apply", file)
    assert done.code == 1
    assert "the user somebody-else is bound to no identity here" in done.stderr

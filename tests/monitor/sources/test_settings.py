from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.sources.settings import DicomwebSource, FolderSource, OrthancSource, parse_source
from registry.errors import BadInputError

ORTHANC = {"name": "a", "kind": "orthanc", "url": "https://pacs.example:8042", "site": "north"}
FOLDER = {
    "name": "b",
    "kind": "folder",
    "path": "/srv/in",
    "site": "north",
    "afterwards": "keep",
}
DICOMWEB = {"name": "c", "kind": "dicomweb", "sites": ["north"]}


def parse(document: dict[str, Any]) -> OrthancSource | FolderSource | DicomwebSource:
    return parse_source(yaml.safe_dump(document, sort_keys=False), source="source.yaml")


def test_each_kind_is_read() -> None:
    assert isinstance(parse(ORTHANC), OrthancSource)
    assert isinstance(parse(FOLDER), FolderSource)
    assert isinstance(parse(DICOMWEB), DicomwebSource)


def test_where_files_are_moved_to_is_read() -> None:
    found = parse({**FOLDER, "afterwards": "move to /srv/taken"})
    assert isinstance(found, FolderSource)
    assert found.destination == Path("/srv/taken")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "file.yaml:1: kind: Field required"),
        ({"kind": "ftp"}, "file.yaml:1: kind: Input should be"),
        ({**ORTHANC, "site": "a/b"}, "file.yaml:4: site: "),
        ({**ORTHANC, "name": "Main PACS"}, "file.yaml:1: name: "),
        ({**ORTHANC, "pasword": "x"}, "file.yaml:5: pasword: is no key"),
        ({**ORTHANC, "url": "ftp://a"}, "file.yaml:3: url: .*address of the REST API"),
        ({**ORTHANC, "url": "http://a:b"}, "file.yaml:3: url: .*address of the REST API"),
        ({**ORTHANC, "url": "http://u:secret@a"}, "file.yaml:3: url: .*no credentials"),
        ({**ORTHANC, "url": "http://a/?x=secret"}, "file.yaml:3: url: .*without a query"),
        ({**ORTHANC, "username": "u"}, "username and password_file: give both"),
        ({**ORTHANC, "url": "http://a", "authority": "/ca.pem"}, "authority: only an https"),
        ({**FOLDER, "path": "in"}, "file.yaml:3: path: .*absolute"),
        ({**FOLDER, "afterwards": "burn"}, "file.yaml:5: afterwards: .*`keep`, `remove`"),
        ({**FOLDER, "afterwards": "move to there"}, "file.yaml:5: afterwards: .*absolute"),
        ({**FOLDER, "afterwards": "move to /srv/in/x"}, "would be read again"),
        ({**FOLDER, "settle_seconds": -1}, "file.yaml:6: settle_seconds: "),
        ({**DICOMWEB, "sites": []}, "file.yaml:3: sites: "),
        ({**DICOMWEB, "largest_part_bytes": 1 << 40}, "file.yaml:5: largest_part_bytes: "),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_never_quoted(
    document: dict[str, Any], said: str
) -> None:
    text = yaml.safe_dump(document, sort_keys=False)
    with pytest.raises(BadInputError, match=said) as caught:
        parse_source(text, source="file.yaml")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"x" * 2000])
def test_a_password_file_holds_one_password(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(0o600)
    source = parse({**ORTHANC, "username": "u", "password_file": str(path)})
    assert isinstance(source, OrthancSource)
    with pytest.raises(Exception, match="must hold one line of UTF-8"):
        source.password()

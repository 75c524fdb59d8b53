from __future__ import annotations

from pathlib import Path

import pytest

from monitor.receiving.settings import ReceiverSettings, parse_receiver
from registry.errors import BadInputError, SetupError

WHOLE = """\
title: DRIFTWARD
host: 10.1.2.3
port: 104
peers:
  - title: PACS-NORTH
    addresses: [10.1.0.0/16, 10.9.9.9]
    site: north
  - title: CT 3
    addresses: ["fd00::/8"]
    site: south
limits: {associations: 8}
"""


def test_a_whole_file_is_read() -> None:
    settings = parse_receiver(WHOLE, source="receiver.yaml")
    assert settings.limits.associations == 8
    known = settings.sender("PACS-NORTH", "10.1.77.1")
    assert known is not None
    assert settings.site_of(known) == "north"


@pytest.mark.parametrize(
    ("title", "address"),
    [
        ("PACS-NORTH", "10.2.0.1"),
        ("PACS-SOUTH", "10.1.0.1"),
        ("CT 3", "10.1.0.1"),
        ("", "10.1.0.1"),
    ],
)
def test_a_title_counts_only_from_its_own_addresses(title: str, address: str) -> None:
    assert parse_receiver(WHOLE, source="receiver.yaml").sender(title, address) is None


def test_an_ipv4_peer_of_a_socket_for_both_is_known() -> None:
    settings = parse_receiver(WHOLE, source="receiver.yaml")
    assert settings.sender("PACS-NORTH", "::ffff:10.9.9.9") is not None
    assert settings.sender("CT 3", "fd00::7%eth0") is not None


def test_without_peers_this_machine_alone_may_send() -> None:
    settings = ReceiverSettings(site="north")
    assert settings.sender("ANYONE", "127.0.0.1") is not None
    assert settings.sender("ANYONE", "10.0.0.1") is None
    assert settings.knows_address("::1")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("host: 0.0.0.0\nsite: north", "peers: list who may send"),
        ("port: 104", "site: name the site"),
        ("site: north\nport: 70000", "receiver.yaml:2: port"),
        ("site: north\nprot: 104", "receiver.yaml:2: prot"),
        ("site: north\ntitle: SEVENTEEN-LETTERS", "receiver.yaml:2: title"),
        ("site: north\nhost: pacs.example", "no IP address"),
        ("peers:\n  - {title: A, addresses: [10.0.0.0/8]}", "peer A has no site"),
        (
            "site: n\npeers:\n  - {title: A, addresses: [10.0.0.300]}",
            "receiver.yaml:3: peers.0",
        ),
        ("site: [north", "receiver.yaml"),
        ("- north", "a mapping of keys"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, named: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_receiver(text, source="receiver.yaml")
    assert named in str(caught.value)


def test_keys_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    settings = parse_receiver(
        f"site: north\ntls: {{certificate: {tmp_path}/absent.pem, key: {tmp_path}/k.pem}}",
        source="receiver.yaml",
    )
    assert settings.tls is not None
    with pytest.raises(SetupError, match=r"absent\.pem"):
        settings.tls.context()

"""Who may send, to what, and how much of anything a sender may hold: the receiver's file."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import Annotated, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from registry.errors import SetupError
from registry.yaml_files import read_specification

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

#: An AE title: 1 to 16 characters of the default repertoire without backslash (PS3.5 6.2, AE).
AeTitle: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=16, pattern=r"^[\x20-\x5b\x5d-\x7e]+$")
]
_STRICT = ConfigDict(extra="forbid", frozen=True)
_MIB = 1 << 20


class Peer(BaseModel):
    """A sender that is known."""

    model_config = _STRICT

    #: its calling AE title
    title: AeTitle
    #: from which it may come
    addresses: Annotated[tuple[Network, ...], Field(min_length=1)]
    #: whose scans it sends; pseudonyms of two sites have nothing in common
    site: str | None = None

    def is_at(self, address: str) -> bool:
        """Say whether an address is one of its own."""
        # An IPv4 peer of a socket for both is written ::ffff:10.0.0.1.
        ip = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self.addresses)


class Tls(BaseModel):
    """Keys of an encrypted port (PS3.15 annex B, BCP 195)."""

    model_config = _STRICT

    certificate: Path
    key: Path
    #: where given, a sender must show a certificate that it signed
    authority: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return what wraps a connection.

        Raises
        ------
        SetupError
            If a file cannot be used.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
            if self.authority is not None:
                context.load_verify_locations(self.authority)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            raise SetupError(
                f"tls: {self.certificate}, its key or its authority cannot be used "
                f"({error.strerror or type(error).__name__}): give PEM files that this user "
                "can read, the key without a pass phrase"
            ) from error
        return context


class ReceiverLimits(BaseModel):
    """How much a sender may hold, and for how long."""

    model_config = _STRICT

    #: at once, of all senders together, in each process
    associations: Annotated[int, Field(ge=1, le=512)] = 64
    #: at once, of one address
    associations_per_address: Annotated[int, Field(ge=1, le=512)] = 32
    #: that may be open without having asked for an association
    connections: Annotated[int, Field(ge=16, le=4096)] = 1024
    #: until a new connection must have asked for an association (the ARTIM timer, PS3.8 9.1.5)
    request_seconds: Annotated[float, Field(gt=0, le=300)] = 15
    #: between two messages
    idle_seconds: Annotated[float, Field(gt=0, le=3600)] = 30
    #: for one PDU to come or to be taken
    pdu_seconds: Annotated[float, Field(gt=0, le=300)] = 30
    #: for one instance
    message_seconds: Annotated[float, Field(gt=0, le=3600)] = 300
    #: of one instance
    instance_bytes: Annotated[int, Field(ge=_MIB, le=1024 * _MIB)] = 256 * _MIB
    #: of instances that are on their way, in each process
    pending_bytes: Annotated[int, Field(ge=_MIB)] = 64 * _MIB
    #: of each process: what would go beyond is refused
    memory_bytes: Annotated[int, Field(ge=256 * _MIB)] = 1536 * _MIB


class ReceiverSettings(BaseModel):
    """How the receiver listens, and to whom."""

    model_config = _STRICT

    title: AeTitle = "DRIFTWARD"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 11112
    #: also takes associations that call another title than its own
    any_called_title: bool = False
    #: of senders that name none
    site: str | None = None
    #: none, and whoever is on this machine may send
    peers: tuple[Peer, ...] = ()
    tls: Tls | None = None
    #: that share the port; None, and it is one a core, at most four
    processes: Annotated[int, Field(ge=1, le=64)] | None = None
    limits: ReceiverLimits = ReceiverLimits()

    @field_validator("host")
    @classmethod
    def _is_an_address(cls, host: str) -> str:
        if host == "localhost":
            return "127.0.0.1"
        try:
            ipaddress.ip_address(host)
        except ValueError as error:
            raise ValueError(f"{host!r} is no IP address to listen on") from error
        return host

    @model_validator(mode="after")
    def _every_sender_has_a_site(self) -> Self:
        for peer in self.peers:
            if peer.site is None and self.site is None:
                raise ValueError(
                    f"peer {peer.title} has no site: give it one, or name the `site` of all"
                )
        if not self.peers:
            if not ipaddress.ip_address(self.host).is_loopback:
                raise ValueError(
                    f"peers: list who may send before listening on {self.host}; without a list "
                    "only this machine may, on 127.0.0.1"
                )
            if self.site is None:
                raise ValueError("site: name the site whose scans come here")
        return self

    def sender(self, title: str, address: str) -> Peer | None:
        """Return the peer that calls itself so from there, or None for a stranger."""
        if not self.peers:
            anyone = Peer(
                title=title or "ANY",
                addresses=(
                    ipaddress.ip_network("127.0.0.0/8"),
                    ipaddress.ip_network("::1/128"),
                ),
                site=self.site,
            )
            return anyone if anyone.is_at(address) else None
        for peer in self.peers:
            if peer.title.strip() == title and peer.is_at(address):
                return peer
        return None

    def knows_address(self, address: str) -> bool:
        """Say whether any peer may come from there."""
        if not self.peers:
            return ipaddress.ip_address(address.split("%", maxsplit=1)[0]).is_loopback
        return any(peer.is_at(address) for peer in self.peers)

    def site_of(self, peer: Peer) -> str:
        """Return the site of a peer."""
        site = peer.site or self.site
        if site is None:
            raise ValueError(f"peer {peer.title} has no site")
        return site


def parse_receiver(text: str, *, source: str) -> ReceiverSettings:
    """Read the receiver's file.

    Raises
    ------
    BadInputError
        Naming the file, the line and the key.
    """
    return read_specification(
        text, ReceiverSettings, source=source, what="a receiver; see docs/intake.md"
    )

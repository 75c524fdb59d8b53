"""Whether a request over loopback comes from the very user who runs this process.

Loopback alone says little: every account of a machine, and every proxy on it, can connect there.
The kernel knows whose socket is at the other end; `/proc/net/tcp` says so on Linux, and where it
does not, nobody is recognised and everybody signs in.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path
from typing import TypeAlias

from starlette.datastructures import Headers
from starlette.types import Scope

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_TABLES = {4: Path("/proc/net/tcp"), 6: Path("/proc/net/tcp6")}
#: A socket that is being closed may belong to nobody, and is then listed as root's.
_ESTABLISHED = "01"
#: What a proxy adds: it then asks for somebody else.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def same_user(scope: Scope) -> bool:
    """Return whether a request was made on this machine by the user of this process."""
    client, server = scope.get("client"), scope.get("server")
    if not client or not server or server[1] is None or not on_this_machine(scope):
        return False
    near, far = (str(client[0]), int(client[1])), (str(server[0]), int(server[1]))
    return owner_of_connection(near, far) == os.geteuid()


def on_this_machine(scope: Scope) -> bool:
    """Return whether a request came over loopback, and no proxy says that it forwards it."""
    client = scope.get("client")
    headers = Headers(scope=scope)
    if not client or any(name in headers for name in _FORWARDED):
        return False
    try:
        return _plain(ipaddress.ip_address(client[0])).is_loopback
    except ValueError:
        return False


def nobody(_scope: Scope) -> bool:
    """Recognise no request: everybody signs in."""
    return False


def owner_of_connection(near: tuple[str, int], far: tuple[str, int]) -> int | None:
    """Return the number of the user who has the socket at `near` that is connected to `far`.

    None where that is not on loopback, not established, or not to be known.
    """
    try:
        addresses = [ipaddress.ip_address(host) for host, _ in (near, far)]
    except ValueError:
        return None
    if not all(_plain(address).is_loopback for address in addresses):
        return None
    wanted = [
        f"{_as_listed(address)}:{port:04X}"
        for address, (_, port) in zip(addresses, (near, far), strict=True)
    ]
    versions = {address.version for address in addresses}
    if len(versions) != 1:
        return None
    try:
        with _TABLES[versions.pop()].open(encoding="ascii") as table:
            for line in table:
                fields = line.split()
                if fields[1:3] == wanted and fields[3] == _ESTABLISHED:
                    return int(fields[7])
    except OSError:
        return None
    return None


def _plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, where it does."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _as_listed(address: Address) -> str:
    """Return an address as the kernel lists it: words of 32 bits, each in its own byte order."""
    packed = address.packed
    words = (packed[start : start + 4] for start in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)

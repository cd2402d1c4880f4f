"""Which addresses the service may talk to."""

import ipaddress
import re
from dataclasses import dataclass
from functools import cached_property

from modelward.netguard.errors import OutboundRefusedError

__all__ = ["Address", "OutboundPolicy", "forbidden_reason"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_METADATA = {
    "169.254.169.254": "cloud metadata",
    "169.254.170.2": "container credentials",
    "168.63.129.16": "the Azure host",
    "100.100.100.200": "cloud metadata",
    "192.0.0.192": "cloud metadata",
    "fd00:ec2::254": "cloud metadata",
    "fd20:ce::254": "cloud metadata",
}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_MORE_RESERVED: tuple[tuple[str, str], ...] = (
    # beyond what ipaddress of every supported Python calls private
    ("192.0.0.0/24", "reserved"),
    ("192.88.99.0/24", "reserved (6to4 relay)"),
    ("64:ff9b:1::/48", "local NAT64"),
    ("2001::/23", "reserved (Teredo and others)"),
    ("fec0::/10", "site-local"),
    ("5f00::/16", "reserved (segment routing)"),
)
_RESERVED = tuple((ipaddress.ip_network(text), why) for text, why in _MORE_RESERVED)
_NUMBERS = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?\.?")


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, itself otherwise."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    # NAT64, and the old form ::a.b.c.d; ::1 and :: are judged as they are
    if address in _NAT64 or 1 < int(address) < 2**32:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def forbidden_reason(address: Address) -> str:
    """Why an address is not one of the public internet; empty where it is one."""
    inner = _inner(address)
    if name := _METADATA.get(str(inner)):
        return name
    kinds = (
        ("unspecified", inner.is_unspecified),
        ("loopback", inner.is_loopback),
        ("link-local", inner.is_link_local),
        ("multicast", inner.is_multicast),
        ("private", inner.is_private),
        ("reserved", inner.is_reserved),
    )
    for kind, holds in kinds:
        if holds:
            return kind
    for network, why in _RESERVED:
        if inner in network:
            return why
    return "" if inner.is_global else "not global"


@dataclass(frozen=True)
class OutboundPolicy:
    """What guarded requests may do."""

    allow: tuple[str, ...] = ()
    """Hosts (exact names) and networks (CIDR) that may be reached although they are private."""
    max_redirects: int = 5
    max_bytes: int = 64 * 1024**2
    """Largest answer."""
    timeout_seconds: float = 60.0
    """For connections, redirects and the whole answer; the system bounds the search for a name."""

    def __post_init__(self) -> None:
        # Reads the list now, so that a mistake shows when the settings are loaded.
        _ = self._networks

    @cached_property
    def _networks(self) -> tuple[_Network, ...]:
        found = []
        for text in self.allow:
            try:
                found.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                if "/" in text or not _HOST.fullmatch(text):
                    raise ValueError(
                        f"expected host names or networks such as 10.1.0.0/16; got {text!r}"
                    ) from None
        return tuple(found)

    @cached_property
    def _hosts(self) -> frozenset[str]:
        return frozenset(text.lower().rstrip(".") for text in self.allow if "/" not in text)

    def check_host(self, host: str) -> None:
        """Refuse spellings of a host that only exist to hide an address.

        Raises:
            OutboundRefusedError: Decimal, octal or hexadecimal addresses, zone ids, rubbish.
        """
        bare = host.removeprefix("[").removesuffix("]")
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            if _NUMBERS.fullmatch(bare):
                raise OutboundRefusedError(
                    f"host {host[:80]!r}: expected an address as four decimal numbers, or a name"
                ) from None
            if not _HOST.fullmatch(bare):
                raise OutboundRefusedError(
                    f"host {host[:80]!r}: expected a host name or an address"
                ) from None
        else:
            if "%" in bare:
                raise OutboundRefusedError(f"host {host[:80]!r}: expected an address without zone")

    def check_address(self, host: str, address: Address) -> None:
        """Let only public and allow-listed addresses pass.

        Raises:
            OutboundRefusedError: Any other.
        """
        if host.lower().rstrip(".") in self._hosts:
            return
        inner = _inner(address)
        for network in self._networks:
            for one in (address, inner):
                if one.version == network.version and one in network:
                    return
        if reason := forbidden_reason(address):
            raise OutboundRefusedError(
                f"{host}: expected a public address; it leads to {address} ({reason}). The "
                "setting outbound_allow names private hosts and networks that may be reached"
            )

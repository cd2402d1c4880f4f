"""Where a request comes from."""

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache

__all__ = ["Proxies", "bucket"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """Finds the client's address; X-Forwarded-For counts only where a trusted proxy wrote it."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted: list[_Network] = [
            ipaddress.ip_network(text, strict=False) for text in trusted
        ]

    def trusts(self, address: str) -> bool:
        """Whether an address belongs to a trusted proxy."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        # A server that listens on :: sees 192.0.2.1 as ::ffff:192.0.2.1.
        mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
        return any((mapped or found) in network for network in self._trusted)

    def client(self, peer: str, forwarded: Iterable[str]) -> str:
        """The address that a request is counted for.

        Args:
            peer: The other end of the connection.
            forwarded: Values of the X-Forwarded-For headers, in their order.

        Returns:
            The last address in the chain that is not a trusted proxy: what stands left of it
            could be made up by the client.
        """
        if not self._trusted or not self.trusts(peer):
            return peer
        chain = [part.strip() for value in forwarded for part in value.split(",")]
        client = peer
        for address in reversed(chain):
            try:
                ipaddress.ip_address(address)
            except ValueError:
                break
            client = address
            if not self.trusts(address):
                break
        return client


@lru_cache(maxsize=4096)
def _parse(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def bucket(address: str) -> str:
    """The name under which an address is counted: one client has a whole /64 of IPv6."""
    return _parse(address)

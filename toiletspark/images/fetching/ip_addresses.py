"""IP addresses that may be dialled: public ones, and the networks in `fetch.allow_private`."""

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network

_GLOBAL_IPV6 = IPv6Network("2000::/3")  # all that is assigned to sites
_NAT64 = IPv6Network("64:ff9b::/96")  # IPv4 as hosts with IPv6 alone reach it
# let through by Python's is_global, differently from release to release; no image is hosted there
_SPECIAL = (
    "192.0.0.0/24",  # protocol assignments; a cloud's metadata at .192
    "192.88.99.0/24",  # relays of 6to4
    "168.63.129.16/32",  # Azure's own services, as its machines reach them
    "2001::/23",  # protocol assignments, Teredo among them
    "2001:db8::/32",
    "2002::/16",  # 6to4: holds an arbitrary IPv4 address
    "3fff::/20",
)
_SPECIAL_NETWORKS = tuple(ipaddress.ip_network(network) for network in _SPECIAL)
_ISATAP = (0x00005EFE, 0x02005EFE)  # third quarter of an address with an IPv4 address in the fourth


class Networks:
    """The networks that may be dialled although they are not public, as in "10.20.0.0/16"."""

    def __init__(self, private: Iterable[str]) -> None:
        self._private = [ipaddress.ip_network(network) for network in private]

    def may_dial(self, address: str) -> bool:
        """Returns True if an address, as a resolver returns it, may be dialled."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address):
            if parsed.scope_id:
                return False
            parsed = _unwrapped(parsed)
        return any(parsed in network for network in self._private) or _is_public(parsed)


def _unwrapped(address: IPv6Address) -> IPv4Address | IPv6Address:
    """Unwraps IPv4 addresses embedded in IPv6 (mapped and NAT64)."""
    if address.ipv4_mapped:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if not address.is_global or address.is_multicast:
        return False
    if any(address in network for network in _SPECIAL_NETWORKS):
        return False
    if isinstance(address, IPv4Address):
        return True
    return address in _GLOBAL_IPV6 and (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP

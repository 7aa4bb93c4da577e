"""Which IP addresses may be dialled: public ones, and those of the networks that `fetch.allow_private` names."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

_SITES = IPv6Network("2000::/3")  # all of IPv6 that is given out to sites
_NAT64 = IPv6Network("64:ff9b::/96")  # how hosts with IPv6 alone see IPv4
# what Python's is_global lets through, differently from release to release, and where no image has its home
_NO_SITES = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",  # protocol assignments; a cloud's metadata at .192
            "192.88.99.0/24",  # relays of 6to4
            "168.63.129.16/32",  # Azure's own services, seen from inside
            "2001::/23",  # protocol assignments, Teredo among them
            "2001:db8::/32",
            "2002::/16",  # 6to4: an IPv4 address of anybody's choice inside
            "3fff::/20",
        ),
    )
)
_ISATAP = (
    0x00005EFE,
    0x02005EFE,
)  # the third quarter of an address that has an IPv4 address in the fourth


class Networks:
    """The networks that may be dialled although they are not public.

    Args:
        private: as in "10.20.0.0/16".
    """

    def __init__(self, private: Iterable[str]) -> None:
        self._private: list[IPv4Network | IPv6Network] = [
            ipaddress.ip_network(one) for one in private
        ]

    def may_dial(self, address: str) -> bool:
        """Whether the address, as a resolver gives it, may be dialled; what is none may not."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address):
            if parsed.scope_id:
                return False
            parsed = _inside(parsed)
        return any(parsed in network for network in self._private) or _is_public(parsed)


def _inside(address: IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that is dialled in truth, where an IPv6 address is only its dress."""
    if address.ipv4_mapped:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if (
        not address.is_global
        or address.is_multicast
        or any(address in network for network in _NO_SITES)
    ):
        return False
    if isinstance(address, IPv4Address):
        return True
    return address in _SITES and (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP

"""Which network addresses a fetch may reach: public ones only, unless private ones are allowed explicitly."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from aiohttp.abc import AbstractResolver, ResolveResult

from replay.artifacts.errors import ArtifactReason, ArtifactRefused

#: RFC 6052: an IPv6 address that carries an IPv4 one in its last 32 bits
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether ``address`` (textual IP) lies in the public internet; embedded IPv4 addresses are looked through."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(one.is_global and not one.is_multicast and not one.is_reserved for one in _layers(ip))


def _layers(ip: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    if isinstance(ip, IPv4Address):
        return [ip]
    if ip.ipv4_mapped is not None:
        return [ip.ipv4_mapped]
    if ip.sixtofour is not None:
        return [ip, ip.sixtofour]
    if ip.teredo is not None:
        return [ip, *ip.teredo]
    if ip in _NAT64:
        return [IPv4Address(int(ip) & 0xFFFFFFFF)]
    return [ip]


def check_literal(host: str, *, allow_private: bool) -> None:
    """Refuse a literal private IP: aiohttp connects to literals without asking its resolver."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return
    if not allow_private and not is_public(host):
        raise ArtifactRefused(ArtifactReason.ADDRESS, f"{host} is a private address")


class GuardedResolver(AbstractResolver):
    """Resolves a name once and hands out only addresses that were checked, so the connection goes to these.

    A name with even one private address is refused: which of its addresses gets used is not ours to choose.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        results = []
        for kind, _, proto, _, where in found:
            address = str(where[0])
            if not self._allow_private and not is_public(address):
                raise ArtifactRefused(ArtifactReason.ADDRESS, f"{host} leads to the private address {address}")
            results.append(
                ResolveResult(
                    hostname=host, host=address, port=port, family=kind, proto=proto, flags=socket.AI_NUMERICHOST
                )
            )
        return results

    async def close(self) -> None:
        """Nothing is held open."""

"""Which network addresses a fetch may reach: public ones, and those networks that were allowed explicitly."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from replay.artifacts.errors import ArtifactReason, ArtifactRefused

#: RFC 6052: an IPv6 address that carries an IPv4 one in its last 32 bits
_NAT64 = IPv6Network("64:ff9b::/96")


#: Names that are resolved at a time: more than are ever asked for at once.
_NAMES = 32


class Addresses:
    """``allowed``: networks in CIDR form that may be reached although they are not public. Raises ``ValueError``."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._allowed: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(one) for one in allowed)

    def permits(self, address: str) -> bool:
        """Whether a textual IP address may be reached; IPv4 addresses embedded in IPv6 are looked through."""
        try:
            ip = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return all(_public(one) or any(one in network for network in self._allowed) for one in _layers(ip))

    def socket_to(self, info: AddrInfoType) -> socket.socket:
        """A socket for a connection to ``info``, made only where that is permitted. Every connection begins with one: aiohttp
        connects to literal IPs without asking its resolver, and what it takes for one (``127\u30020\u30020\u30021`` is) nobody but it
        knows. Raises ``ArtifactRefused``."""
        family, kind, protocol, _, where = info
        if not self.permits(str(where[0])):
            raise ArtifactRefused(ArtifactReason.ADDRESS, f"{where[0]} is a private address")
        return socket.socket(family, kind, protocol)


def _public(ip: IPv4Address | IPv6Address) -> bool:
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


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


class GuardedResolver(AbstractResolver):
    """Resolves a name once and hands out only addresses that were checked, so the connection goes to these.

    A name with even one private address is refused: which of its addresses gets used is not ours to choose.
    """

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        # of its own: a dead name server keeps neither a file's threads busy nor, up to that many, another name waiting
        self._threads = ThreadPoolExecutor(_NAMES, thread_name_prefix="names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        asked = partial(
            socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, asked)
        results = []
        for kind, _, proto, _, where in found:
            address = str(where[0])
            if not self._addresses.permits(address):
                raise ArtifactRefused(ArtifactReason.ADDRESS, f"{host} leads to the private address {address}")
            results.append(
                ResolveResult(
                    hostname=host, host=address, port=port, family=kind, proto=proto, flags=socket.AI_NUMERICHOST
                )
            )
        return results

    async def close(self) -> None:
        """What is still being resolved ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

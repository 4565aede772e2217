"""Addresses: where the server listens, and which ones a browser can open."""

import ipaddress
import os
import socket

import psutil

from speechmlp.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine that no other machine can take."""


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket bound to an address.

    Raises:
        UserError: the address or port is not available.
    """
    if not 0 <= port <= 65_535:
        raise UserError(f"--port: expected 0 to 65535, found {port}")
    if not host.strip():
        raise UserError("--host: expected an address such as 127.0.0.1, or 0.0.0.0 for all of this machine; found none")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        if os.name == "posix":  # on Windows it would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and ipaddress.ip_address(address[0]).is_unspecified:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # :: is every address, as on Linux
        listening.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{host}, port {port}: cannot listen there ({reason}); choose another --port or --host"
        ) from error
    return listening


def is_loopback(address: str) -> bool:
    """Returns whether only this machine can reach an address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def openable(host: str, address: str) -> list[str]:
    """Returns the hosts of the addresses that browsers can open: first on this machine, then on others.

    Args:
        host: the one that was asked for.
        address: the one that the socket is bound to.
    """
    bound = ipaddress.ip_address(address.partition("%")[0])
    if not bound.is_unspecified:
        return [f"[{host}]" if ":" in host else host]
    return ["127.0.0.1", *(f"[{one}]" if one.version == 6 else str(one) for one in _of_machine(bound.version == 6))]


def _of_machine(with_ipv6: bool) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Returns the addresses of this machine's networks; IPv4 first, because they are shorter to type."""
    status = psutil.net_if_stats()
    found = {
        ipaddress.ip_address(one.address.partition("%")[0])
        for name, addresses in psutil.net_if_addrs().items()
        for one in addresses
        if one.family in (socket.AF_INET, socket.AF_INET6) and name in status and status[name].isup
    }
    reachable = [one for one in found if not one.is_loopback and not one.is_link_local]
    return sorted((one for one in reachable if with_ipv6 or one.version == 4), key=lambda one: (one.version, int(one)))

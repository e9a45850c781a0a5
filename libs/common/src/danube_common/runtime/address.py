"""Addresses to listen on: ``host:port`` or ``[v6]:port``; port 0 takes a free port."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"
WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound
PORT_MAX: Final = 65535
BACKLOG: Final = 1024


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of ``text``, without the brackets of an IPv6 host. Raises ValueError."""
    if "://" in text:
        raise ValueError(f"an address is host:port without a scheme, unlike {text!r}")
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > PORT_MAX:
        raise ValueError(f"not an address of the form host:port: {text!r}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"an IPv6 host stands in brackets, [::1]:80, unlike {text!r}")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """Return the text that `split_address` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_address(text: str) -> str:
    """Return ``text`` if it is an address; raises ValueError."""
    split_address(text)
    return text


def check_url(text: str) -> str:
    """Return ``text`` if it is ``http://host:port`` or ``https://host:port``; raises ValueError."""
    scheme, found, address = text.rstrip("/").partition("://")
    try:
        if not found or scheme not in ("http", "https"):
            raise ValueError
        split_address(address)
    except ValueError:
        raise ValueError(f"not a URL of the form http://host:port: {text!r}") from None
    return text


def reachable_host(host: str) -> str:
    """Return the host by which others reach a listener on ``host``.

    That of a wildcard is this machine's name (in a container, the container's), if it leads to an address
    of this machine that others may reach it by; else the loopback address.
    """
    if host not in WILDCARDS:
        return host
    name = socket.gethostname()
    try:
        found = socket.getaddrinfo(name, 0, family=socket.AF_INET, type=socket.SOCK_DGRAM)
        own = str(found[0][4][0])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Binding to an address tells whether it is one of this machine's.
            probe.bind((own, 0))
    except OSError:
        return LOOPBACK
    return LOOPBACK if own.startswith("127.") else name


def reachable_url(address: str, *, tls: bool = False) -> str:
    """Return the ``http://`` or ``https://`` URL by which others reach a listener on ``address``."""
    host, port = split_address(address)
    return f"http{'s' if tls else ''}://{join_address(reachable_host(host), port)}"


def _share_port(bound: socket.socket) -> None:
    option = getattr(socket, "SO_REUSEPORT", None)
    if option is None:
        raise OSError(errno.EOPNOTSUPP, "this system cannot share a port among processes (SO_REUSEPORT)")
    bound.setsockopt(socket.SOL_SOCKET, option, 1)


def bind(address: str, *, reuse_port: bool = False, listen: bool = True) -> socket.socket:
    """Return a bound TCP socket; IPv4 is preferred among the addresses of a name.

    Args:
        address: where.
        reuse_port: let other sockets that ask for the same, of this user, have the address too. The system
            spreads new connections over those that listen.
        listen: False only keeps the address for sockets that share it.

    Raises:
        OSError: the address cannot be had; the text names it and the reason.
        ValueError: ``address`` is none.
    """
    host, port = split_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _name, target = min(found, key=lambda one: one[0] != socket.AF_INET)
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                _share_port(bound)
            bound.bind(target)
            # Two sockets may be bound to one port until one of them listens.
            if listen:
                bound.listen(BACKLOG)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise OSError(error.errno, f"cannot listen on {address}: {reason}") from error
    return bound

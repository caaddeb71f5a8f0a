"""Addresses of servers, and which of them never leave this machine."""

from ipaddress import ip_address

from common.errors import InputError


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine.

    Names other than localhost are not looked up: the answer could be another a moment later.

    >>> is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, without the brackets of an IPv6 host. Raises InputError.

    >>> split_address("[::1]:50551")
    ('::1', 50551)
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InputError(f"{address[:80]!r} is no server: give HOST:PORT, as 127.0.0.1:50551")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """HOST:PORT, with brackets around an IPv6 host.

    >>> join_address("::1", 50551)
    '[::1]:50551'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

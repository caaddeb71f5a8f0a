"""Addresses of callers, as they are counted: one for each that can be somebody."""

from ipaddress import IPv6Address, ip_address


def peer_name(host: str) -> str:
    """One caller's address; of IPv6 the network of 64 bits, which is one subscriber's.

    >>> peer_name("::ffff:192.0.2.7"), peer_name("2001:db8::1:2:3:4")
    ('192.0.2.7', '2001_db8__')
    """
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        address = IPv6Address(int(address) >> 64 << 64)
    return str(address).replace(":", "_")


def peer_of(said: str) -> str:
    """The address in what gRPC says of a peer, also behind the doorman (server.front.doorman).

    >>> peer_of("unix:/tmp/vicinal-x/17-192.0.2.7"), peer_of("ipv4:192.0.2.7:4000")
    ('192.0.2.7', '192.0.2.7')
    """
    if said.startswith("unix:"):
        return said.rpartition("/")[2].partition("-")[2]
    return said.partition(":")[2].rpartition(":")[0]

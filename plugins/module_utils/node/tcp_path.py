# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel knows of the path that a TCP connection takes; for this no privilege is needed."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import NamedTuple

# struct tcp_info, include/uapi/linux/tcp.h: 8 bytes of flags, then 32-bit words; fields are only ever added at its end.
_FLAGS = 8
_OPTIONS, _TIMESTAMPS = 5, 1
_SND_MSS, _PMTU, _ADVMSS, _TOTAL_RETRANS = 2, 13, 19, 23
_WORDS = 24
# What a packet carries besides TCP's payload: the IP header, and TCP's without options (RFC 9293, section 3.7.1).
_HEADERS = {socket.AF_INET: 40, socket.AF_INET6: 60}
_TIMESTAMP_OPTION = 12
"""Bytes by which the kernel lowers the advertised size once both ends use timestamps (TCPOLEN_TSTAMP_ALIGNED)."""


class Mtu(NamedTuple):
    """Bytes in the largest packet: of the interface in use, and of the path as far as it is known; 0 where unknown."""

    interface: int
    path: int


def mtu_of(connection: socket.socket) -> Mtu:
    """Read both from the kernel: a connection advertises the interface's, and learns the path's from ICMP."""
    try:
        raw = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _FLAGS + 4 * _WORDS)
        words = struct.unpack_from(f"={_WORDS}I", raw, _FLAGS)
    except (OSError, struct.error):  # the connection is gone, or the kernel older than its words
        return Mtu(0, 0)
    headers = _HEADERS[connection.family] + (_TIMESTAMP_OPTION if raw[_OPTIONS] & _TIMESTAMPS else 0)
    interface = words[_ADVMSS] + headers if words[_ADVMSS] else 0
    path = words[_PMTU]
    # Where large packets were lost, a kernel that probes (net.ipv4.tcp_mtu_probing) goes on with smaller ones and says
    # so only here. Without losses a smaller segment means no more than a small window.
    if words[_TOTAL_RETRANS] and words[_SND_MSS]:
        path = min(path, words[_SND_MSS] + headers)
    return Mtu(interface, path)


def unacknowledged(connection: socket.socket) -> int:
    """Bytes that were sent and that the other side's kernel has not confirmed (SIOCOUTQ, tcp(7))."""
    return int(struct.unpack("=i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0])

"""Whatever leads to another machine, or to this one."""

import socket
import struct
from pathlib import Path

from .attempts import WISHES, attempt, found, plug

PROCESS_EVENTS, CONNECTOR = 1, 11
#: That one listens to these events from now on (linux/cn_proc.h, linux/connector.h, netlink(7)).
LISTENING = struct.pack("=IHHIIIIIIHHI", 40, 3, 0, 0, 0, PROCESS_EVENTS, 1, 0, 0, 4, 0, 1)


def run() -> None:
    plug("direct v4", socket.AF_INET, socket.SOCK_STREAM, ("1.1.1.1", 443))
    plug("direct v6", socket.AF_INET6, socket.SOCK_STREAM, ("2606:4700:4700::1111", 443))
    query = bytes.fromhex("000101000001000000000000076578616d706c65036f72670000010001")
    plug("dns by udp", socket.AF_INET, socket.SOCK_DGRAM, ("1.1.1.1", 53), content=query)
    echo = struct.pack("!BBHHH", 8, 0, 0xF7FF, 0, 0)
    plug("icmp", socket.AF_INET, socket.SOCK_DGRAM, ("1.1.1.1", 0), socket.IPPROTO_ICMP, echo)
    plug("raw", socket.AF_INET, socket.SOCK_RAW, ("1.1.1.1", 0), socket.IPPROTO_ICMP, echo)
    plug("packets", socket.AF_PACKET, socket.SOCK_RAW, ("lo", 0))
    with attempt("dns"):
        socket.getaddrinfo("example.org", 443)
        found["dns"] = "OPEN"
    plug("host's loopback v4", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", WISHES["port"]))
    plug("host's loopback v6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", WISHES["port"]))
    plug("host's loopback by another name", socket.AF_INET, socket.SOCK_STREAM, ("127.1.2.3", WISHES["port"]))
    plug("abstract socket", socket.AF_UNIX, socket.SOCK_STREAM, "\0" + WISHES["abstract"])
    plug("host of a virtual machine", socket.AF_VSOCK, socket.SOCK_STREAM, (socket.VMADDR_CID_HOST, 1024))
    with attempt("host's sockets"):
        found["host's sockets"] = "OPEN" if WISHES["abstract"] in Path("/proc/net/unix").read_text() else "not listed"
    with attempt("host's processes by netlink"), socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, CONNECTOR) as one:
        one.bind((0, PROCESS_EVENTS))
        one.send(LISTENING)
        found["host's processes by netlink"] = "OPEN"
    with attempt("kernel's ciphers"), socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET):
        found["kernel's ciphers"] = "OPEN"
    with attempt("interfaces"):
        found["interfaces"] = ",".join(sorted(name for _, name in socket.if_nameindex()))

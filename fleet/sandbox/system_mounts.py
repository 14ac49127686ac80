"""The part of the host's system that every sandbox shows, read-only: programs, libraries and what names and
certificates need. No keys, no shadow, no one's home, none of the host's sockets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fleet.program_lookup import SYSTEM
from fleet.sandbox.bubblewrap import Mount

#: Of /etc only these. Not /etc/ssl as a whole: private keys lie in it.
ETC = (
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "gai.conf",
    "group",
    "host.conf",
    "hosts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "lsb-release",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki/ca-trust",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "protocols",
    "resolv.conf",
    "services",
    "shells",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
)

#: What the kernel says of itself in /proc, and lets root change without a capability: in kernel.core_pattern, for one,
#: the program that it runs, outside, when a process crashes (proc(5), core(5)).
_SETTINGS = ("acpi", "asound", "bus", "driver", "dynamic_debug", "fs", "irq", "pressure", "scsi", "sys")
_TRIGGER = "sysrq-trigger"
#: What root alone may read there: of memory and its pages, of timers, of everybody's keys.
_OF_ROOT = (
    *("allocinfo", "iomem", "ioports", "kcore", "keys", "kmsg", "kpagecgroup", "kpagecount", "kpageflags"),
    *("latency_stats", "mtrr", "pagetypeinfo", "sched_debug", "slabinfo", "timer_list", "vmallocinfo", "zoneinfo"),
)


def kernel() -> tuple[Mount, ...]:
    """Return what has to lie over a sandbox's own /proc when root runs it: its files go by who someone is to the
    kernel, which namespaces do not change. Nothing for others: with it, their agents could mount none for their own
    commands.
    """
    if os.geteuid() != 0:
        return ()
    proc, nothing = Path("/proc"), Path("/dev/null")
    shown = [Mount("readonly", proc / name) for name in (*_SETTINGS, _TRIGGER)]
    covered = [Mount("readonly", proc / name, nothing) for name in _OF_ROOT]
    return tuple(mount for mount in (*shown, *covered) if mount.place.exists())


def system(root: Path = Path("/")) -> tuple[Mount, ...]:
    """Return what of the host's system there is to show."""
    return tuple(_mounts(root))


def _mounts(root: Path) -> Iterator[Mount]:
    for folder in SYSTEM:
        found = root / folder.relative_to("/")
        if found.is_symlink():
            yield Mount("link", folder, found.readlink())
        elif found.is_dir():
            yield Mount("readonly", folder)
    for name in ETC:
        place = Path("/etc") / name
        found = root / "etc" / name
        if not found.exists():
            continue
        real = found.resolve()
        if found.is_symlink() and any(real.is_relative_to(folder) for folder in SYSTEM):
            yield Mount("link", place, found.readlink())
        else:
            # A link to what is not shown, as /etc/resolv.conf often is: its target stands in for it.
            yield Mount("readonly", place, real)

"""A description of the machine of a run that does not identify its owner."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Sequence
from importlib import metadata

PACKAGES = (
    "apache-airflow-core",
    "apache-airflow",
    "apache-airflow-providers-amazon",
    "boto3",
    "redshift-connector",
    "cryptography",
    "redis",
    "moto",
)


def describe() -> Sequence[tuple[str, str]]:
    """Return names and values: processor, cores, memory, system, Python, and the versions of the packages used."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "") if _has_os_release() else platform.system()
    return (
        ("processor", f"{_processor()}, {cores()} usable cores"),
        ("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"),
        ("system", f"{system}, {platform.system()} {platform.release()} on {platform.machine()}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        *((name, version) for name in PACKAGES if (version := _version(name)) is not None),
    )


def _has_os_release() -> bool:
    try:
        platform.freedesktop_os_release()
    except OSError:
        return False
    return True


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        for line in cpuinfo:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

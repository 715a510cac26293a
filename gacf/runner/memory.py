"""How much memory a device has free."""

from __future__ import annotations

from typing import Any


def bytes_free(device: Any) -> int | None:
    """The free memory of a device, for a CPU that of the machine; None if it is unknown."""
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        return None if limit is None else limit - stats.get("bytes_in_use", 0)
    try:
        with open("/proc/meminfo") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return 1024 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None

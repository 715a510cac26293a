"""How much memory a device has free."""

from __future__ import annotations

from typing import Any


def bytes_free(device: Any) -> int | None:
    """Memory that a device has free: its own, or for a CPU the machine's; None where unknown."""
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

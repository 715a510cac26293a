"""Four host devices, strict ranks, and double precision where answers are analytic."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
# Before jax is imported: its backend reads these flags once. Compilation is most of what the tests
# spend, so the compiler optimises little, unless the flag is given (as `make slow` does).
given = os.environ.get("XLA_FLAGS", "")
if "xla_backend_optimization_level" not in given:
    given += " --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = given + " --xla_force_host_platform_device_count=4"

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision, for answers that are known exactly."""
    with jax.enable_x64(True):
        yield

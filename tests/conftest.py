"""Four host devices, strict ranks, and double precision where answers are analytic."""

from __future__ import annotations

import hashlib
import os
import time
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


START = time.monotonic()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs tests in an order that `GACF_TEST_ORDER` picks, where time may not suffice for all."""
    order = os.environ.get("GACF_TEST_ORDER")
    if order:
        items.sort(key=lambda item: hashlib.sha256((order + item.nodeid).encode()).digest())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what `GACF_TEST_SECONDS` leave no time for."""
    limit = os.environ.get("GACF_TEST_SECONDS")
    # Only `.ci/run` sets it, for the second tier, which takes longer than a change should wait.
    # What is left out differs from commit to commit; `make long` by hand leaves out nothing.
    if limit and time.monotonic() - START > float(limit):
        pytest.skip(f"{limit} s are over")


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision, for answers that are known exactly."""
    with jax.enable_x64(True):
        yield

"""pytest fixtures, which pytest finds by the entry point ``pytest11``.

They need pytest-trio: tests with its mark, or its ``trio_mode``. A test that is to run under a virtual clock
has to ask for ``autojump_clock`` itself: pytest-trio does not see one that only another fixture asked for.
"""

from collections.abc import AsyncIterator

import pytest

from ._gateway import FakeGateway
from ._opening import open_fake_gateway
from ._proxy import FaultProxy, open_fault_proxy


@pytest.fixture
async def fake_gateway() -> AsyncIterator[FakeGateway]:
    """A `FakeGateway` for ``+15550001`` on a free port of 127.0.0.1, and in memory through its ``connect``.

    Works under ``autojump_clock``. For other settings use `open_fake_gateway` in the test.
    """
    async with open_fake_gateway() as gateway:
        yield gateway


@pytest.fixture
async def fault_proxy(fake_gateway: FakeGateway) -> AsyncIterator[FaultProxy]:
    """A `FaultProxy` on a free port in front of the test's ``fake_gateway``, which it reaches in memory."""
    async with open_fault_proxy("127.0.0.1", fake_gateway.port or 0, connect=fake_gateway.connect) as proxy:
        yield proxy

"""The C core, held against the same oracle by the same tests as the Python engine."""

from collections.abc import Iterator

import pytest

from tests.datapath import test_engine_receive as same
from tests.datapath.test_engine_receive import *  # noqa: F403
from tests.harness.core_ends import CoreReceiver


@pytest.fixture(autouse=True, scope="module")
def _core() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(same, "Receiver", CoreReceiver)
        yield

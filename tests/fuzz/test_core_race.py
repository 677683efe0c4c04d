"""Threads of the C core under ThreadSanitizer, for a moment: `make race` runs them for longer."""

import pytest

from tests.fuzz import core_race


@pytest.mark.skipif(not core_race.has_libtsan(), reason="needs gcc with libtsan (Debian: gcc)")
def test_threads_do_not_race_use_no_nonce_twice_and_keep_flows_in_order() -> None:
    good, said = core_race.run(1)
    assert good, said

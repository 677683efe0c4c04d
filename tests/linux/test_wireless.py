"""The kernel's own table of Wi-Fi signals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.linux import wireless

HEAD = (
    "Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n"
    " face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n"
)


@pytest.mark.parametrize(("level", "signal"), [("-56.", 0.88), ("-50", 1.0), ("-20.", 1.0), ("-110.", 0.0)])
def test_the_level_in_dbm_becomes_a_share_of_a_strong_signal(level: str, signal: float) -> None:
    text = f"{HEAD} wlp2s0: 0000   54.  {level}  -256        0      0      0      0     33        0\n"
    (description,) = wireless.describe(text).values()
    assert description.signal == pytest.approx(signal)
    assert description.kind == "wifi"


def test_a_drivers_own_scale_is_not_taken_for_dbm() -> None:
    assert wireless.describe(f"{HEAD} wlan0: 0000   54.  60.  0  0 0 0 0 0 0\n") == {}


def test_a_kernel_without_the_table_tells_nothing() -> None:
    assert all(0 <= (held.signal or 0) <= 1 for held in wireless.read().values())


@given(st.text())
def test_any_text_is_survived(text: str) -> None:
    for held in wireless.describe(HEAD + text).values():
        assert held.signal is None or 0 <= held.signal <= 1

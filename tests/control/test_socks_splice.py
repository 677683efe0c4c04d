"""Who decides whether the proxy splices."""

import pytest

from sojourn.control.socks_config import SocksConfig
from sojourn.control.socks_splice import Asked, choose
from sojourn.errors import ConfigError


def test_what_can_be_is_spliced_unless_the_file_says_no() -> None:
    assert choose(SocksConfig(), {}) == Asked(splice=True, why="[socks] splice = true")
    assert choose(SocksConfig(splice=False), {}) == Asked(splice=False, why="[socks] splice = false")


@pytest.mark.parametrize(("word", "splice"), [("on", True), ("OFF ", False)])
def test_the_environment_goes_before_the_file(word: str, splice: bool) -> None:
    for configured in (True, False):
        asked = choose(SocksConfig(splice=configured), {"SOJOURN_SPLICE": word})
        assert asked == Asked(splice, f"SOJOURN_SPLICE={word.strip().lower()}")


def test_any_other_word_is_an_error_that_says_so() -> None:
    with pytest.raises(ConfigError, match="neither on nor off"):
        choose(SocksConfig(), {"SOJOURN_SPLICE": "yes please"})

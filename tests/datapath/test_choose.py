"""Which engine serves."""

import pytest

from sojourn.datapath.choose import CORE, PYTHON, Choice, choose
from sojourn.errors import ConfigError, NotSupported


def _missing() -> str:
    raise ImportError("no module")


def test_the_core_serves_where_it_can_be_loaded() -> None:
    assert choose({}, lambda: "OpenSSL") == Choice(CORE, "OpenSSL")
    assert choose({"SOJOURN_ENGINE": "core"}, lambda: "OpenSSL").name == CORE


def test_python_serves_where_there_is_no_core_and_says_why() -> None:
    assert choose({}, _missing) == Choice(PYTHON, "the C core was not built, or cannot be loaded: no module")


def test_a_user_has_the_last_word() -> None:
    assert choose({"SOJOURN_ENGINE": "Python "}, lambda: "OpenSSL").name == PYTHON
    with pytest.raises(NotSupported):
        choose({"SOJOURN_ENGINE": "core"}, _missing)
    with pytest.raises(ConfigError):
        choose({"SOJOURN_ENGINE": "rust"}, _missing)


def test_an_engine_that_is_asked_for_by_name_carries_plain_tunnels_too() -> None:
    words = ("", "kernel", "core", "python")
    kernel = [choose({"SOJOURN_ENGINE": word}, lambda: "OpenSSL").kernel for word in words]
    assert kernel == [True, True, False, False]

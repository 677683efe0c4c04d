"""Exit codes and sentences."""

import pytest

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.cli.failure import exit_code, sentence
from sojourn.errors import ConfigError, NotSupported, SojournError


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_of_refusal_has_its_code(kind: ErrorKind) -> None:
    codes = {"failed": 1, "usage": 2, "unknown_verb": 2, "not_running": 3, "no_permission": 4, "not_associated": 5}
    codes["changed"] = 1
    assert exit_code(ApiError("x", kind=kind)) == codes[kind.value]


def test_what_the_kernel_refused_for_lack_of_permission_is_4() -> None:
    error = ConfigError("/etc/x", "cannot be read", "Run it as root.")
    assert exit_code(error) == 1
    error.__cause__ = PermissionError(13, "Permission denied")
    assert exit_code(error) == 4
    assert exit_code(NotSupported("a", "b")) == 1


def test_a_sentence_says_what_and_what_to_do() -> None:
    assert sentence(ApiError("no lease", "Wait.")) == "no lease. Wait."
    assert sentence(ApiError("no lease")) == "no lease."
    assert sentence(SojournError("x")) == "x"

"""An error of the system comes with what to do."""

import errno
import os

import pytest

from sojourn.linux.failures import explained


@pytest.mark.parametrize(("number", "remedy"), [
    (errno.EPERM, "Run it as root"), (errno.EACCES, "Run it as root"),
    (errno.ENOSPC, "free space"), (errno.EROFS, "free space"), (errno.ENODEV, "sojourn doctor"),
])  # fmt: skip
def test_an_error_of_the_system_comes_with_what_to_do(number: int, remedy: str) -> None:
    text = str(explained(OSError(number, os.strerror(number), "/some/file")))
    assert os.strerror(number) in text
    assert "/some/file" in text
    assert remedy in text

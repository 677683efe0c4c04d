"""What a person can do about an error of the system that ends a process of ours."""

import errno

from sojourn.errors import SojournError

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def explained(error: OSError) -> SojournError:
    """Return the error as one sentence with its remedy."""
    if error.errno in (errno.EPERM, errno.EACCES):
        fix = "Run it as root; `sojourn doctor` says what else is missing"
    elif error.errno in DISK:
        fix = "Check the disk's free space and who may write there (`df`, `mount`), then start it again"
    else:
        fix = "`sojourn doctor` says what is missing here"
    return SojournError(f"{error}. {fix}.")

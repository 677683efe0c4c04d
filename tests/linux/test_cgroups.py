"""Where cgroup2 is, on machines of several kinds, and where nobody has mounted it."""

import os
import subprocess
import sys

import pytest

from sojourn.linux import cgroups

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw
"""


def test_the_mount_is_where_mountinfo_says() -> None:
    assert cgroups.mounted_at(HYBRID) == "/sys/fs/cgroup/uni fied"
    assert cgroups.mounted_at("30 23 0:27 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw") == "/sys/fs/cgroup"
    assert cgroups.mounted_at("30 23 0:27 / /sys rw - sysfs sysfs rw\n\nnonsense") is None


def test_of_several_mounts_the_one_that_shows_most_is_taken() -> None:
    part = "40 31 0:38 /docker/1 /mnt/part rw shared:1 - cgroup2 cgroup2 rw\n"
    assert cgroups.mounted_at(part + HYBRID) == "/sys/fs/cgroup/uni fied"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: cgroup2 may not be mounted by others")
def test_the_root_is_the_same_where_sys_is_hidden() -> None:
    """As `ip netns exec` hides it: a mount namespace with another /sys, and no other mount of cgroup2."""
    root = cgroups.open_root()
    seen = sorted(entry for entry in os.listdir(cgroups.path_of(root)) if entry.startswith("cgroup."))
    os.close(root)
    code = (
        "import os; from sojourn.linux import cgroups; root = cgroups.open_root();"
        "assert cgroups.mounted_at(open('/proc/self/mountinfo').read()) is None;"
        "print(*sorted(one for one in os.listdir(cgroups.path_of(root)) if one.startswith('cgroup.')))"
    )
    hide = 'umount -l -a -t cgroup2; umount -l /sys && mount -t sysfs sysfs /sys && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hide, "sh", sys.executable, "-c", code],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout.split() == seen, done.stderr

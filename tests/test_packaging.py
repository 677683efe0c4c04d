"""The Debian package's files agree with the rest (scripts/check-deb installs, upgrades and purges the real one)."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sojourn import __version__
from sojourn.api.messages import SOCKET_GROUP
from sojourn.store.config_dir import DEFAULT

ROOT = Path(__file__).parent.parent
DEBIAN = ROOT / "debian"


def field(name: str) -> set[str]:
    """Return the package names of a field of debian/control."""
    found = re.search(rf"^{name}:((?: .*|\n .*)*)", (DEBIAN / "control").read_text(), re.MULTILINE)
    assert found is not None
    return {word.split()[0] for word in re.split(r",\s*", found[1].strip()) if word and not word.startswith("$")}


def apt_list(name: str) -> set[str]:
    found = re.search(rf"^{name} := (.*(?:\\\n.*)*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found is not None
    return set(re.findall(r"(?<![$(\w])[a-z][a-z0-9.+-]+", found[1]))


def test_what_compiles_in_a_checkout_compiles_in_the_package() -> None:
    assert apt_list("APT_BUILD") <= field("Build-Depends")


def test_the_package_asks_for_the_programs_and_libraries_that_the_daemons_use() -> None:
    # python3 comes with its exact minor version from scripts/deb-tree; netbase is for the lab.
    wanted = apt_list("APT_BASE") - apt_list("APT_BUILD") - {"python3", "python3-venv", "netbase"}
    assert wanted <= field("Depends")


def test_the_changelog_begins_with_the_program_s_version() -> None:
    first = (DEBIAN / "changelog").read_text().splitlines()[0]
    assert re.fullmatch(rf"sojourn \({re.escape(__version__)}(~dev)?\) \w+; urgency=medium", first)


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_a_maintainer_script_is_a_shell_s_and_leaves_its_place_to_debhelper(script: str) -> None:
    path = DEBIAN / f"sojourn.{script}"
    assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0
    assert path.read_text().startswith("#!/bin/sh\nset -e\n")
    assert "\n#DEBHELPER#\n" in path.read_text()


def test_purge_removes_the_configuration_and_the_group_and_remove_does_not() -> None:
    text = (DEBIAN / "sojourn.postrm").read_text()
    before, _, purged = text.partition('if [ "$1" = purge ]')
    assert DEFAULT in purged
    assert f"groupdel {SOCKET_GROUP}" in purged
    assert "rm " not in before


@pytest.mark.parametrize("name", ["deb-build", "deb-tree", "check-deb", "check-deb-boot"])
def test_the_scripts_are_bash_s(name: str) -> None:
    assert subprocess.run(["bash", "-n", str(ROOT / "scripts" / name)], check=False).returncode == 0


def test_each_exception_from_lintian_has_its_reason_above_it() -> None:
    lines = (DEBIAN / "sojourn.lintian-overrides").read_text().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        assert line.startswith("#") or before.startswith("#"), line


def test_dpkg_reads_the_changelog() -> None:
    if shutil.which("dpkg-parsechangelog") is None:
        pytest.skip("dpkg-parsechangelog (dpkg-dev) is not installed")
    argv = ["dpkg-parsechangelog", "-l", str(DEBIAN / "changelog"), "-S", "Source"]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "sojourn\n"

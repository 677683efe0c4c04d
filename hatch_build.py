"""Builds what is not Python: the C core of the data path, and the BPF objects. Run by every build of a wheel.

Both are optional. Where a compiler or headers are missing, a warning says so, the wheel is pure Python, and the
Python engine serves (`sojourn doctor` tells). With SOJOURN_BUILD=required in the environment (make sets it) a part
that cannot be built ends the build instead.

`python hatch_build.py` builds in place, for an editable installation whose C sources have changed.
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path("src", "sojourn")
CORE_SOURCES = PACKAGE / "datapath" / "core"
CORE = PACKAGE / "datapath" / "_core.abi3.so"
BPF_SOURCES = PACKAGE / "bpf"
LIMITED_API = "0x030b0000"
"""The stable ABI of Python 3.11: one build serves every later Python."""

CORE_FLAGS = (
    "-std=gnu11", "-O3", "-fPIC", "-pthread", "-fvisibility=hidden", "-fno-strict-aliasing", "-fno-plt",
    "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-D_GNU_SOURCE",
    "-Wall", "-Wextra", "-Wshadow", "-Wvla", "-Wno-unused-parameter", "-Wno-missing-field-initializers",
    "-Werror=implicit-function-declaration", "-Werror=incompatible-pointer-types", "-Werror=int-conversion",
    "-Werror=return-type", "-Werror=format-security", "-Werror=array-bounds", "-Werror=vla",
)  # fmt: skip
LINK_FLAGS = ("-shared", "-pthread", "-Wl,-z,relro,-z,now", "-Wl,--as-needed", "-lcrypto")
BPF_ARCHITECTURES = {"x86_64": "x86", "aarch64": "arm64", "riscv64": "riscv", "ppc64le": "powerpc", "s390x": "s390"}


class CannotBuild(Exception):
    """Something needed is missing, or the compiler refused; the text says which."""


def run(*command: str | Path) -> None:
    """Run a compiler. Its words are part of what is raised."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotBuild(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        raise CannotBuild(f"{command[0]} failed:\n{done.stderr.strip()[-4000:]}")
    if done.stderr.strip():
        print(done.stderr.strip(), file=sys.stderr)


def compiler(*names: str, packages: str) -> str:
    """Return the first of these programs that is installed; `packages`: Debian's that are needed to build."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise CannotBuild(f"none of these is installed: {', '.join(names)} (Debian: apt-get install {packages})")


def build_core(root: Path) -> list[Path]:
    """Compile the C core to an extension module, and return where it is."""
    sources = sorted((root / CORE_SOURCES).glob("*.c"))
    if not sources:
        return []
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        raise CannotBuild(f"no Python.h in {include} (Debian: apt-get install python3-dev)")
    cc = os.environ.get("CC") or compiler("gcc", "clang", "cc", packages="gcc libssl-dev python3-dev")
    made = root / CORE.with_suffix(f".so.{os.getpid()}")  # a module that is in use must not be written over
    try:
        run(*cc.split(), *CORE_FLAGS, f"-DPy_LIMITED_API={LIMITED_API}", f"-I{include}", *sources, "-o", made,
            *LINK_FLAGS)  # fmt: skip
        made.replace(root / CORE)
    finally:
        made.unlink(missing_ok=True)
    return [CORE]


def build_bpf(root: Path) -> list[Path]:
    """Compile every BPF program to the object beside it, and return where those are."""
    sources = sorted((root / BPF_SOURCES).glob("*.bpf.c"))
    if not sources:
        return []
    clang = compiler(
        "clang", "clang-19", "clang-16", "clang-15", "clang-14", packages="clang libbpf-dev linux-libc-dev"
    )
    machine = platform.machine()
    multiarch = sysconfig.get_config_var("MULTIARCH") or f"{machine}-linux-gnu"
    target = ("-target", "bpf", f"-D__TARGET_ARCH_{BPF_ARCHITECTURES.get(machine, machine)}")
    objects = []
    for source in sources:
        made = source.with_suffix(".o")
        run(clang, *target, "-mcpu=v3", "-g", "-O2", "-Wall", f"-I/usr/include/{multiarch}", "-c", source, "-o", made)
        objects.append(made.relative_to(root))
    return objects


def build(root: Path) -> tuple[list[Path], list[Path]]:
    """Build all that can be built; return the extension module and the BPF objects."""
    made = []
    for what, serves, builder in (
        ("C core", "the Python engine serves", build_core),
        ("BPF objects", "plain tunnels are served by the engine", build_bpf),
    ):
        try:
            made.append(builder(root))
        except CannotBuild as problem:
            if os.environ.get("SOJOURN_BUILD") == "required":
                raise
            print(f"warning: the {what} cannot be built, {serves}: {problem}", file=sys.stderr)
            made.append([])
    return made[0], made[1]


class CustomBuildHook(BuildHookInterface[Any]):
    """Called by hatchling for wheels and editable installations."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, put what was made into the wheel, and give the wheel the tag that is true of it."""
        core, objects = build(Path(self.root))
        build_data["artifacts"] += [path.as_posix() for path in (*core, *objects)]
        if core:
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


if __name__ == "__main__":
    try:
        build(Path(__file__).resolve().parent)
    except CannotBuild as missing:
        sys.exit(str(missing))

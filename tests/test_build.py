"""What `pip` builds: an sdist, a wheel for every Python from 3.11 on, and a pure one where nothing can be compiled."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from sojourn import __version__

ROOT = Path(__file__).parent.parent
CORE = "sojourn/datapath/_core.abi3.so"
OBJECTS = {f"sojourn/bpf/{name}.bpf.o" for name in ("owner", "plain", "splice")}
PRIVATE = {
    "_PyArg_ParseTuple_SizeT", "_Py_BuildValue_SizeT", "_Py_Dealloc", "_Py_FalseStruct", "_Py_NoneStruct",
    "_Py_TrueStruct",
}  # fmt: skip
"""Names with an underscore that the stable ABI promises all the same (CPython, Misc/stable_abi.toml)."""


def python(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder`, with the machine's environment less what speaks of this checkout."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CC", "PYTHONPATH", "SOJOURN_BUILD")}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=kept | environment, capture_output=True, text=True, check=False
    )


def unpacked(wheel: Path, folder: Path) -> Path:
    """Do what an installation does, without scripts."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what builds are made of, with what an earlier one has left in it, which must get into none."""
    copy = tmp_path_factory.mktemp("build") / "checkout"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", "LICENSE", "README.md", "hatch_build.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    for name in (CORE, *OBJECTS):
        (copy / "src" / name).write_text("old")
    return copy


@pytest.fixture(scope="module")
def sdist(checkout: Path) -> Path:
    """The unpacked sdist."""
    done = python("-m", "hatchling", "build", "-t", "sdist", "-d", "made", folder=checkout)
    assert done.returncode == 0, done.stderr
    made = checkout / "made" / f"sojourn-{__version__}.tar.gz"
    subprocess.run(["tar", "-xf", made, "-C", checkout.parent], check=True)
    return checkout.parent / f"sojourn-{__version__}"


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """What `pip` compiles of it, and of the checkout, where there are compilers: the only one of these tests."""
    options = ("--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check")
    done = python("-m", "pip", "wheel", *options, "-w", "made", ".", folder=sdist, SOJOURN_BUILD="required")
    assert done.returncode == 0, done.stderr
    (made,) = (sdist / "made").iterdir()
    return made


@pytest.fixture(scope="module")
def pure(checkout: Path) -> tuple[Path, str]:
    """What is built where there are none, and what was said."""
    done = python("-m", "hatchling", "build", "-t", "wheel", "-d", "pure", folder=checkout, PATH=str(checkout))
    assert done.returncode == 0, done.stderr
    (made,) = (checkout / "pure").iterdir()
    return made, done.stderr


def test_an_sdist_has_all_that_a_build_needs_and_nothing_that_was_built(sdist: Path) -> None:
    there = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "src").rglob("*.[ch]")}
    assert {"LICENSE", "README.md", "hatch_build.py", "pyproject.toml", *sources} <= there
    assert not {path for path in there if path.endswith((".so", ".o"))}


def test_a_wheel_is_for_every_python_from_3_11_on_and_has_the_core_and_every_bpf_object(wheel: Path) -> None:
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name == f"sojourn-{__version__}-cp311-abi3-{platform}.whl"
    assert {f"{path.stem}.o" for path in (ROOT / "src/sojourn/bpf").glob("*.bpf.c")} == {Path(o).name for o in OBJECTS}
    assert {CORE, *OBJECTS} <= files(wheel)
    assert not {name for name in files(wheel) if name.endswith((".c", ".h"))}


def test_the_core_in_a_wheel_is_loaded_and_asks_for_nothing_but_the_stable_abi(wheel: Path, tmp_path: Path) -> None:
    unpacked(wheel, tmp_path)
    code = "from sojourn.datapath import _core; print(_core.__file__, _core.libcrypto())"
    done = python("-P", "-c", code, folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.stdout.startswith(f"{tmp_path / CORE} OpenSSL"), done.stderr
    argv = ["nm", "-D", "--undefined-only", str(tmp_path / CORE)]
    names = {line.split()[1] for line in subprocess.check_output(argv, text=True).splitlines()}
    assert "PyModuleDef_Init" in names
    assert {name for name in names if name.startswith("_Py")} <= PRIVATE


def test_without_a_compiler_the_wheel_is_pure_and_otherwise_the_same(wheel: Path, pure: tuple[Path, str]) -> None:
    made, said = pure
    assert made.name == f"sojourn-{__version__}-py3-none-any.whl"
    assert files(made) | {CORE, *OBJECTS} == files(wheel)
    assert not files(made) & {CORE, *OBJECTS}
    core, objects, _ = said.splitlines()  # and what hatchling has made
    assert core.startswith("warning: the C core cannot be built, the Python engine serves: none of these is installed")
    assert "gcc libssl-dev python3-dev" in core
    assert objects.startswith("warning: the BPF objects cannot be built, plain tunnels are served by the engine: none")
    assert "clang libbpf-dev" in objects


def test_where_the_wheel_was_pure_the_python_engine_serves_and_doctor_says_so(
    pure: tuple[Path, str], tmp_path: Path
) -> None:
    place = unpacked(pure[0], tmp_path / "site")
    words = ("-P", "-m", "sojourn", "doctor", "--host", "--json", "--config-dir", str(tmp_path / "etc"))
    done = python(*words, folder=tmp_path, PYTHONPATH=str(place))
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for name, said, remedy in (
        ("C core", "the Python engine serves: the C core was not built", "gcc, libssl-dev and python3-dev"),
        (
            "BPF for plain tunnels",
            "the engine carries them: BPF is not available here: it needs plain.bpf.o",
            "libbpf-dev",
        ),
        ("applications", "guessed from /proc", "libbpf1"),
    ):
        assert (checks[name]["ok"], checks[name]["needed"]) == (False, False)
        assert said in checks[name]["found"]
        assert remedy in checks[name]["remedy"]
    code = (
        "import sojourn.daemon.anchor, sojourn.daemon.host, sojourn.datapath.process, os\n"
        "from sojourn.datapath.choose import choose; print(choose(os.environ).name)"
    )
    done = python("-P", "-c", code, folder=tmp_path, PYTHONPATH=str(place))
    assert (done.stdout, done.stderr) == ("python\n", "")


@pytest.mark.parametrize(
    ("compiler", "missing"), [("", "gcc, clang, cc"), ("/nowhere/gcc -m64", "/nowhere/gcc cannot be run")]
)
def test_where_building_is_required_what_is_missing_is_named(checkout: Path, compiler: str, missing: str) -> None:
    required = {"PATH": str(checkout), "CC": compiler, "SOJOURN_BUILD": "required"}
    done = python("-m", "hatchling", "build", "-t", "wheel", "-d", "required", folder=checkout, **required)
    assert done.returncode != 0
    assert missing in done.stderr
    assert not list((checkout / "required").glob("*.whl"))

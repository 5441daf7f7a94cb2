"""The source distribution builds, and the wheel made from it works away from the sources."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from proxy import __version__

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*argv: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(each) for each in argv],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def sdist(copy_sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of a tree in which somebody has built and run things."""
    out = tmp_path_factory.mktemp("sdist")
    tree = shutil.copytree(copy_sources, out / "tree")
    for left in ("relay/relay.so", "wire/old.c", "config/__pycache__/model.cpython-311.pyc"):
        place = tree / "proxy" / left
        place.parent.mkdir(exist_ok=True)
        place.touch()
    # Without isolation: what a build needs is here, in the very versions that are tested.
    run(sys.executable, "-m", "build", "-nx", "--sdist", "--outdir", out, tree, cwd=out)
    [made] = out.glob("*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel made from nothing but the source distribution; compiled without optimizing."""
    out = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(out, filter="data")
    tree = out / sdist.name.removesuffix(".tar.gz")
    environment = {**os.environ, "PGWEIR_DEBUG": "1"}
    run(
        *(sys.executable, "-m", "build", "-nx", "--wheel", "--outdir", out, tree),
        cwd=out,
        env=environment,
    )
    [made] = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def pgweir_program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pgweir` in an environment of its own that has the wheel; dependencies are ours."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=place)
    [site] = place.glob("lib/python*/site-packages")
    # site-packages only: an editable installation of ours is not to be found there.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin" / "pgweir"


def names_in(archive: Sequence[str]) -> set[str]:
    return {name for name in archive if not name.endswith("/")}


def test_the_source_distribution_has_all_that_is_compiled(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    compiled = {"*.pyx", "*.pxi", "*.pxd"}
    sources = {
        str(path.relative_to(ROOT)) for kind in compiled for path in ROOT.glob(f"proxy/**/{kind}")
    }
    assert sources | {"setup.py", "machine.py", "LICENSE", "README.md"} <= names


@pytest.mark.parametrize("left", [".so", ".c", ".pyc"])
def test_the_source_distribution_has_nothing_that_was_built(sdist: Path, left: str) -> None:
    with tarfile.open(sdist) as archive:
        assert [name for name in archive.getnames() if name.endswith(left)] == []


def test_the_wheel_has_every_file_that_is_read_at_run_time(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for kind in ("*.py", "*.sql", "*.txt", "*.pyi", "*.pxd", "py.typed")
        for path in ROOT.glob(f"proxy/**/{kind}")
    }
    assert wanted - names == set()


def test_the_wheel_has_the_compiled_rooms_and_not_their_c(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    compiled = sorted(name for name in names if name.endswith((".so", ".c")))
    assert compiled == [
        f"proxy/relay/relay{suffix}",
        f"proxy/sql/lexer{suffix}",
        f"proxy/wire/messages{suffix}",
    ]


def test_the_wheel_has_the_package_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert tops == {"proxy", f"pgweir-{__version__}.dist-info"}


def test_the_installed_program_knows_its_version(pgweir_program: Path, tmp_path: Path) -> None:
    assert run(pgweir_program, "--version", cwd=tmp_path) == f"pgweir, version {__version__}\n"


def test_the_installed_program_checks_an_example(pgweir_program: Path, tmp_path: Path) -> None:
    said = run(pgweir_program, "check", "-c", ROOT / "config" / "smallest.yaml", cwd=tmp_path)
    assert said.startswith(f"{ROOT}/config/smallest.yaml: ok\n")


def test_the_installed_program_runs_its_own_compiled_rooms(
    pgweir_program: Path, tmp_path: Path
) -> None:
    script = "import proxy.relay.relay as relay; print(relay.__file__)"
    python = pgweir_program.with_name("python")
    assert Path(run(python, "-c", script, cwd=tmp_path)).is_relative_to(pgweir_program.parents[1])

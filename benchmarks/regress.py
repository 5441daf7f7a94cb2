"""PostgreSQL's regression tests by psql, one file after the other.

    cd src/test/regress; python regress.py FOLDER/report REFERENCE

What a file printed goes to FOLDER/outputs; the report has a line of JSON for each file: its name,
and whether it printed what it did in the run whose folder is REFERENCE. (What PostgreSQL expects of
a file depends on a library for the tests, too, which is in no package.)
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

LIMIT_S = 120.0
_PSQL = ("psql", "-X", "-a", "-q", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on")


def read_schedule(text: str) -> list[str]:
    """The names of the files in the order of a schedule; those that might run at once, in line."""
    lines = (line.partition(":") for line in text.splitlines())
    return [name for word, _, names in lines if word == "test" for name in names.split()]


def main(report: Path, reference: Path) -> None:
    """Run all files of the schedule in this folder."""
    folder = Path.cwd()
    outputs = report.parent / "outputs"
    outputs.mkdir()
    # Where COPY and the like write; the server is somebody else.
    shutil.rmtree(folder / "results", ignore_errors=True)
    (folder / "results").mkdir()
    (folder / "results").chmod(0o777)
    environment = {
        **os.environ,
        "PG_ABS_SRCDIR": str(folder),
        "PG_ABS_BUILDDIR": str(folder),
        "PG_LIBDIR": "/nowhere",
        "PG_DLSUFFIX": ".so",
        "LC_MESSAGES": "C",
    }
    for name in read_schedule((folder / "parallel_schedule").read_text()):
        output = outputs / f"{name}.out"
        with (folder / "sql" / f"{name}.sql").open("rb") as file, output.open("wb") as out:
            try:
                subprocess.run(
                    _PSQL,
                    stdin=file,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    timeout=LIMIT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                out.write(b"not over\n")
        expected = reference / "outputs" / output.name
        same = expected.exists() and expected.read_bytes() == output.read_bytes()
        with report.open("a") as lines:
            lines.write(json.dumps([name, same]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Everything that reads a peer's bytes, fed with bytes nobody thought of.

`targets` names each reader with its invariant. The suite drives them by hypothesis; `python -m
tests.fuzz --seconds N` drives them by atheris, which looks for new paths through the code.

`CORPUS` keeps bytes worth trying again, a folder for each target: what peers really say, and what
once broke a reader.
"""

from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")

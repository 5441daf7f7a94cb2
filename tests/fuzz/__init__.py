"""Everything that reads a peer's bytes, fed with bytes nobody thought of.

`targets` names each reader with its invariant. The suite drives them by hypothesis; `python -m
tests.fuzz --seconds N` drives them by atheris, which looks for new paths through the code.
"""

"""The one error that ends a run: text of one line, or a line and the tail of a log."""


class BenchmarkError(Exception):
    """Something the run needs is missing or did not start; the text says what and why."""

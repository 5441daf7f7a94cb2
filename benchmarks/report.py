"""The results as text, as Markdown and as JSON. Pure, but for writing the file."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.rounds import Result
from benchmarks.samples import Sample, median_of, median_ratio

BEGIN_MARK = "<!-- bench:begin -->"
END_MARK = "<!-- bench:end -->"

DISTURBED = 0.05
"""Share of the machine that others may use before the tables say so."""

Rows = list[list[str]]

_MEASURED = (
    "case",
    "contestant",
    "CPU µs/tx",
    "with server",
    "tx/s",
    "core",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "KiB/client",
    "CPU/PgBouncer",
    "CPU/HAProxy",
    "tx/s /PgBouncer",
    "p99/PgBouncer",
)
_JUDGED = ("case", "target", "measured", "")
_LEFT = {"case", "contestant", "target", ""}


def as_text(results: Sequence[Result]) -> str:
    """Two aligned tables, and below them what failed and what was different."""
    parts = [text_table(_MEASURED, measured_rows(results))]
    if judged := judged_rows(results):
        parts.append(text_table(_JUDGED, judged))
    remarks = _remarks(results)
    if remarks:
        parts.append("".join(f"{line}\n" for line in remarks))
    return "\n".join(parts)


def as_markdown(results: Sequence[Result]) -> str:
    """The same two tables, and the remarks as a list."""
    parts = [markdown_table(_MEASURED, measured_rows(results))]
    if judged := judged_rows(results):
        parts.append(markdown_table(_JUDGED, judged))
    remarks = _remarks(results)
    if remarks:
        parts.append("".join(f"- {line}\n" for line in remarks))
    return "\n".join(parts)


def as_json(results: Sequence[Result]) -> str:
    """Every sample, verdict and remark."""
    return json.dumps(
        [
            {
                "case": result.case.name,
                "samples": {
                    name: [sample and {**asdict(sample), "tps": sample.tps} for sample in samples]
                    for name, samples in result.samples.items()
                },
                "verdicts": [
                    {
                        "target": str(verdict.target),
                        "measured": verdict.measured,
                        "verdict": verdict.word,
                    }
                    for verdict in result.verdicts
                ],
                "failures": list(result.failures),
                "notes": list(result.notes),
            }
            for result in results
        ],
        indent=1,
    )


def write_markdown(file: Path, tables: str) -> None:
    """Write the tables into `file`: between the two marks when it has them, else as all of it."""
    text = file.read_text() if file.exists() else ""
    before, begin, rest = text.partition(BEGIN_MARK)
    _, end, after = rest.partition(END_MARK)
    if begin and end:
        file.write_text(f"{before}{begin}\n{tables}{end}{after}")
    else:
        file.write_text(tables)


def measured_rows(results: Sequence[Result]) -> Rows:
    """A row for each contestant of each case: medians, and medians of ratios."""
    return [
        _measured_row(result, name)
        for result in results
        for name, samples in result.samples.items()
        if any(samples)
    ]


def judged_rows(results: Sequence[Result]) -> Rows:
    """A row for each target."""
    return [
        [verdict.case, str(verdict.target), _number(verdict.measured, 2), verdict.word]
        for result in results
        for verdict in result.verdicts
    ]


def text_table(headers: Sequence[str], rows: Rows) -> str:
    """Columns as wide as their widest cell; words to the left, numbers to the right."""
    widths = [
        max(len(header), *(len(row[index]) for row in rows)) if rows else len(header)
        for index, header in enumerate(headers)
    ]
    lines = [list(headers), ["-" * width for width in widths], *rows]
    return "".join(
        "  ".join(
            cell.ljust(width) if header in _LEFT else cell.rjust(width)
            for header, cell, width in zip(headers, line, widths, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )


def markdown_table(headers: Sequence[str], rows: Rows) -> str:
    """A table of GitHub's Markdown."""
    rules = [":--" if header in _LEFT else "--:" for header in headers]
    lines = [list(headers), rules, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _measured_row(result: Result, name: str) -> list[str]:
    turns = result.samples[name]
    samples = [sample for sample in turns if sample is not None]
    on_postgres = result.case.rig.server != "stub"

    def middle(metric: str, digits: int) -> str:
        return _number(median_of(samples, metric), digits)

    def ratio(metric: str, versus: str) -> str:
        theirs = result.samples.get(versus)
        if theirs is None or versus == name:
            return ""
        return _number(median_ratio(turns, theirs, metric), 2)

    has_proxy = name != "direct"
    return [
        result.case.name,
        name,
        middle("cpu", 1) if has_proxy else "",
        middle("total cpu", 1) if on_postgres else "",
        middle("tx/s", 0),
        _percent(samples) if has_proxy else "",
        middle("p50", 2),
        middle("p95", 2),
        middle("p99", 2),
        middle("KiB/client", 2),
        ratio("cpu", "pgbouncer") if has_proxy else "",
        ratio("cpu", "haproxy") if has_proxy else "",
        ratio("tx/s", "pgbouncer"),
        ratio("p99", "pgbouncer"),
    ]


def _percent(samples: Sequence[Sample]) -> str:
    busy = median_of(samples, "busy")
    return "" if busy is None else f"{100 * busy:.0f} %"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _remarks(results: Sequence[Result]) -> list[str]:
    return [
        *(f"{r.case.name}: failed: {failure}" for r in results for failure in r.failures),
        *(f"{r.case.name}: {note}" for r in results for note in r.notes),
        *_disturbances(results),
    ]


def _disturbances(results: Sequence[Result]) -> list[str]:
    """Say so when the machine had other work: throughput and latencies then mean little."""
    shares = {
        result.case.name: median_of(
            [s for turns in result.samples.values() for s in turns if s], "others"
        )
        for result in results
    }
    disturbed = {name: share for name, share in shares.items() if share and share > DISTURBED}
    if not disturbed:
        return []
    worst = max(disturbed, key=lambda name: disturbed[name])
    return [
        f"other processes used up to {100 * disturbed[worst]:.0f} % of the machine in "
        f"{len(disturbed)} of {len(shares)} cases: throughput and latencies mean little, and CPU "
        "times are too high"
    ]

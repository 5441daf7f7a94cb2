"""docs/metrics.md says what the program does. Run as a program, this file writes its table."""

import re
from pathlib import Path

from proxy.telemetry.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"


def render_table() -> str:
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for row in METRICS:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.meaning} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + render_table() + END + after


def test_the_page_has_the_table_of_the_program() -> None:
    page = PAGE.read_text("utf-8")
    assert page == with_table(page), "run: python tests/telemetry/test_metrics_page.py"


def test_alerts_ask_only_for_metrics_there_are() -> None:
    known = {row.name for row in METRICS}
    known |= {f"{row.name}_bucket" for row in METRICS if row.kind == "histogram"}
    asked = set(re.findall(r"pgweir_\w+", PAGE.read_text("utf-8")))
    assert asked <= known


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text("utf-8")), "utf-8")

"""docs/console.md has the commands of the program. Run as a program, this file writes them."""

from pathlib import Path

from proxy.console.commands import COMMANDS

PAGE = Path(__file__).parents[2] / "docs" / "console.md"
BEGIN, END = "<!-- commands: begin -->\n", "<!-- commands: end -->\n"


def render() -> str:
    lines = ["| command | who | does |", "|---|---|---|"]
    for command in COMMANDS:
        text = " ".join(filter(None, (command.name, command.argument))).replace("|", "\\|")
        lines.append(f"| `{text}` | {command.who} | {command.meaning} |")
    lines += ["", "### Columns", ""]
    for command in COMMANDS:
        if command.columns:
            names = ", ".join(f"`{column.name}`" for column in command.columns)
            lines.append(f"- `{command.name}`: {names}")
    return "\n".join(lines) + "\n"


def with_commands(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + render() + END + after


def test_the_page_has_the_commands_of_the_program() -> None:
    page = PAGE.read_text("utf-8")
    assert page == with_commands(page), "run: python tests/console/test_console_page.py"


if __name__ == "__main__":
    PAGE.write_text(with_commands(PAGE.read_text("utf-8")), "utf-8")

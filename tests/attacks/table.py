"""The table of attacks on encrypted sums, made from the docstrings of their tests.

    python -m tests.attacks.table

writes it into `docs/attacks.md`. A test of an attack begins its docstring with a line
such as

    Server: passes an upload off as a sum -> refused.
"""

import ast
import dataclasses
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/attacks.md"
FORM = re.compile(r"([^:]+): (.+?) -> (.+)")
ATTACKERS = (
    "Strangers",
    "Clients",
    "Relays",
    "Server",
    "Holders of key shares",
    "Key authority",
    "Coalitions",
)
START, END = "<!-- made by tests/attacks/table.py -->\n", "<!-- end -->\n"


@dataclasses.dataclass(frozen=True, order=True)
class Attack:
    """One row.

    Attributes:
        group: one of `ATTACKERS`.
        attacker: who attacks.
        act: what the attacker does.
        result: what comes of it.
        test: file, below `tests/`, and name of the test that shows it.
    """

    group: str
    attacker: str
    act: str
    result: str
    test: str


def group_of(attacker):
    """The section in which an attacker's rows stand."""
    first = attacker.lower().partition(", of ")[0]  # of which runs
    together = first.startswith("server and ") or first.startswith("clients, all")
    for word, group in (
        ("strangers, clients", "Strangers"),
        ("stranger", "Strangers"),
        ("anyone", "Strangers"),
        ("edge", "Relays"),
        ("relay", "Relays"),
        ("holder", "Holders of key shares"),
        ("lead", "Holders of key shares"),
        ("authority", "Key authority"),
        ("server", "Server"),
        ("client", "Clients"),
    ):
        if first.startswith(word):
            return "Coalitions" if together else group
    raise ValueError(f"{attacker!r} is none of the attackers that the table knows.")


def attacks():
    """All attacks, in the order of files and of the tests in them."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef) or node.name[:5] != "test_":
                continue
            text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            match = FORM.fullmatch(text)
            if match:
                attacker, act, result = match.groups()
                test = f"{path.relative_to(TESTS)}::{node.name}"
                yield Attack(group_of(attacker), attacker, act, result, test)


def table():
    """The sections of the page, with a table each."""
    rows, lines = list(attacks()), []
    for group in ATTACKERS:
        of_group = [row for row in rows if row.group == group]
        if not of_group:
            continue
        lines += [f"## {group}", "", "| who | does | comes of it | test |"]
        lines.append("|---|---|---|---|")
        lines += [
            f"| {row.attacker} | {row.act} | {row.result.rstrip('.')} | `{row.test}` |"
            for row in of_group
        ]
        lines.append("")
    return "\n".join(lines)


def page():
    """The page as it stands, with the table as it should be."""
    head, _, rest = PAGE.read_text().partition(START)
    _, _, tail = rest.partition(END)
    return head + START + "\n" + table() + "\n" + END + tail


if __name__ == "__main__":
    PAGE.write_text(page())

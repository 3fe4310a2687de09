"""The report's section on encryption: what sums cost, and who holds the key."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reports.averages import Cell
from experiments.reports.layout import shown, varying, words
from experiments.reports.markdown import Means, markdown_table, means, number
from experiments.reports.metrics import COMPILING
from fedjax_private.aggregation import SCHEMES
from fedjax_private.runs import ARMS
from fedjax_private.trust import Decryptor

STEPS: Means = {
    "encrypt": ("seconds_encrypt", ".2f"),
    "add": ("seconds_add", ".2f"),
    "decrypt": ("seconds_decrypt", ".2f"),
}
SECONDS: Means = {"seconds": ("seconds_total", ".1f")}

# Shared noise has no counterpart in the clear.
COUNTERPARTS = {"fl_he": "fl", "private_ai_local": "fl_dp"}


def section(
    cells: Sequence[Cell], config: Mapping[str, Any], differ: Sequence[str] = ()
) -> list[str]:
    """The section's blocks; none where nothing is encrypted.

    Args:
        cells: of all runs.
        config: as config.json holds it.
        differ: settings that tell cells of one place apart.
    """
    encrypted = [cell for cell in cells if _encrypts(cell)]
    if not encrypted:
        return []
    differ = [
        n for n in differ if any(cell.setting(n) is not None for cell in encrypted)
    ]
    body = []
    for cell in encrypted:
        plain = _counterpart(cells, cell)
        place = [ARMS[cell.arm].label, cell.partition, str(cell.clients)]
        seconds = [
            *means(cell, SECONDS),
            *means(plain, SECONDS),
            *means(cell, STEPS),
        ]
        size = number(cell.bytes_per_parameter, ".1f")
        error = max(cell.values("max_aggregation_error"), default=None)
        values = [shown(cell.setting(name)) for name in differ]
        body.append([*place, *values, *seconds, size, number(error, ".1e")])
    sums = dict.fromkeys(
        f"- {ARMS[run['spec']['arm']].label}, {run['spec']['clients']} clients: "
        f"{run['sums']}"
        for run in config["runs"].values()
        if run.get("sums")
    )
    head = ["arm", "partition", "clients", *map(words, differ)]
    head += [*SECONDS, "same without HE", *STEPS]
    return [
        "## Encryption",
        "Seconds are of a whole run, with all clients on this one machine; a client of "
        f"a deployment would wait for its own share only. {COMPILING} The server adds "
        "what it cannot read, and holds no key. Decryption noise earns no epsilon.",
        "\n".join(sums),
        markdown_table([*head, "bytes a parameter", "largest error of a sum"], body),
    ]


def _encrypts(cell: Cell) -> bool:
    """Whether sums were encrypted; yes with a scheme that is not at hand."""
    name = cell.setting("encryption")
    try:
        scheme = SCHEMES.choose(name) if name else None
    except ValueError:
        return True
    if scheme is None:
        return False
    return scheme.entry.decryptor(scheme.settings) is not Decryptor.NOBODY_NEEDED


def _counterpart(cells: Sequence[Cell], cell: Cell) -> Cell | None:
    """The same run in the clear, where there is exactly one."""
    wanted = (COUNTERPARTS.get(cell.arm, ""), cell.partition, cell.clients)
    here = [other for other in cells if other[:3] == wanted]
    # The scheme's own settings do not vary among clear runs.
    names = varying(here)
    same = [
        other
        for other in here
        if all(other.setting(name) == cell.setting(name) for name in names)
    ]
    return same[0] if len(same) == 1 else None

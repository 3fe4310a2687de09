"""Ciphertexts against masks: one result, its costs, and who learns what."""

from collections.abc import Mapping

from experiments.reports import table_runs
from experiments.reports.markdown import (
    Means,
    accuracy,
    markdown_table,
    means,
    number,
)
from experiments.reports.results import Results
from fedjax_private.trust import Decryptor, Trust

COSTS: Means = {
    "seconds": ("seconds_total", ".1f"),
    "encrypt": ("seconds_encrypt", ".2f"),
    "add": ("seconds_add", ".2f"),
    "decrypt": ("seconds_decrypt", ".2f"),
}

# Who decrypts -> which uploads the server reads together with one client that departs
# from the protocol, beside that client's own.
BY_ONE_CLIENT: Mapping[Decryptor, str] = {
    Decryptor.NOBODY_NEEDED: "all",
    Decryptor.KEY_AUTHORITY: "those under the key of a sum that it enters",
    Decryptor.HOLDERS: "those under the key of a sum that it enters",
    Decryptor.EVERY_CLIENT: "all",
    Decryptor.UPLOADERS: "none",
}


def readers(trust: Trust) -> str:
    """Returns the smallest coalition that may learn more of uploads than sums."""
    several = f"{trust.quorum or trust.uploads} of {trust.uploads}"
    coalitions = {
        Decryptor.NOBODY_NEEDED: "server",
        Decryptor.KEY_AUTHORITY: "server and authority",
        Decryptor.HOLDERS: f"server and {several} holders",
        Decryptor.EVERY_CLIENT: "server and one client",
        Decryptor.UPLOADERS: f"server and {several} clients",
    }
    return coalitions[trust.decryptor]


def section(found: Results) -> list[str]:
    """The blocks of the table; schemes whose run has not finished are left out."""
    changes = {"label": "cost", "epsilon": table_runs.EPSILONS[1]}
    rows = []
    for scheme in table_runs.SCHEMES:
        cell = found.cell("private_ai", **changes, encryption=scheme)
        if cell is None:
            continue
        run = table_runs.spec(found.data, "private_ai", **changes, encryption=scheme)
        rows.append(
            [
                scheme,
                accuracy(cell),
                *means(cell, COSTS),
                number(cell.bytes_per_parameter, ".2f"),
                BY_ONE_CLIENT[run.trust.decryptor],
                readers(run.trust),
            ]
        )
    head = ["sums", "accuracy", *COSTS, "bytes a parameter"]
    return [
        "## Ciphertexts against masks",
        "The same private result with homomorphic encryption and with secure "
        "aggregation by masks, the two families of cryptographic protection that Kim "
        "and Seok review for collaborative learning (ICAIIC 2022, the paper's "
        f"reference 4): {table_runs.CLIENTS} clients, IID, model {table_runs.LINEAR}, "
        "one seed. The server alone learns the released sums, and a coalition the "
        "vectors of its own members besides.",
        markdown_table(
            [
                *head,
                "uploads that the server reads with one client that departs",
                "who may read uploads together",
            ],
            rows,
        ),
    ]

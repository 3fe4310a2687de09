"""The table of derived parameters."""

from experiments.benchmarks.encryption import CIPHERTEXTS, derived_parameters


def test_every_variant_has_parameters_for_every_number_of_uploads():
    table = derived_parameters()
    columns = {column.header: list(column.cells) for column in table.columns}
    assert columns["scheme"] == [name for name in CIPHERTEXTS for _ in range(3)]
    assert columns["uploads"] == ["4", "32", "256"] * len(CIPHERTEXTS)
    for name, lanes, error, budget in zip(
        columns["scheme"],
        columns["lanes"],
        columns["error of a mean"],
        columns["budget of a key"],
        strict=True,
    ):
        exact = "exact" in name
        assert bool(lanes) is exact and (error == "0") is exact
        floods = name.startswith("threshold") or not exact
        unprotected = name == "ckks_unprotected"
        assert budget == ("1600" if floods and not unprotected else "any")

import ast
import importlib

import pytest
import reference

import fedjax_private


def stubs(root):
    """(package, name) of everything that the packages' stubs export."""
    for stub in sorted((root / "fedjax_private").rglob("__init__.pyi")):
        package = ".".join(stub.parent.relative_to(root).parts)
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.ImportFrom) and package != "fedjax_private":
                yield from ((package, alias.asname) for alias in node.names)


def test_every_exported_name_is_on_its_package_s_page(root):
    pages = {
        name: reference.page(module)
        for name, module in reference.documented_modules().items()
    }
    exported = list(stubs(root))
    accounting = importlib.import_module("fedjax_private.privacy.accounting")
    exported += [(accounting.__name__, name) for name in accounting.__all__]
    algorithms = importlib.import_module("fedjax_private.algorithms")
    exported += [(algorithms.__name__, n) for n in ("fedavg", "ALGORITHMS", "scaffold")]
    assert len(exported) > 150
    for package, name in exported:
        described = pages[package]
        if f"{package}.{name}" in pages or name == "prices":
            continue  # a module, with a page of its own or without public names
        assert any(
            f".. {kind}:: {name}\n" in described
            for kind in ("autoclass", "autofunction", "py:data")
        ), (package, name)


def test_a_name_that_is_on_no_page_is_missed():
    everything = {
        f"{title}.{name}"
        for title, module in reference.documented_modules().items()
        for name in reference.public_names(module)
    }
    assert reference.missing(everything) == []
    lost = "fedjax_private.privacy.accounting.Gaussian"
    assert reference.missing(everything - {lost}) == [lost]


def test_names_of_a_module_of_one_file_are_those_it_defines():
    trust = importlib.import_module("fedjax_private.trust")
    assert reference.public_names(trust) == ["Adversary", "Decryptor", "Trust"]


def test_a_type_is_described_by_the_comment_above_it():
    typing = importlib.import_module("fedjax_private.typing")
    names = reference.public_names(typing)
    assert "Params" in names and "Any" not in names
    assert reference.comment("Params", typing.Params) == [
        "A pytree of float32 arrays: the weights of a Flax model."
    ]


def test_a_registry_lists_its_entries():
    page = reference.page(fedjax_private.datasets)
    assert ".. entries:: fedjax_private.datasets.PARTITIONS" in page


def test_a_constant_needs_a_comment():
    with pytest.raises(ValueError, match="needs a comment"):
        reference.described("LIMIT", 3, "fedjax_private.runs")

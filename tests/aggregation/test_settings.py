import pytest

from fedjax_private.aggregation import SCHEMES, TOPOLOGIES, SumSettings
from fedjax_private.choices import settings_of

OPENFHE = {"arithmetic": "openfhe", "server": "semi_honest"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"topology": "line"}, "topology must be one of star, tree, ring, got line"),
        ({"fan_out": 0}, "fan_out must be at least 1, got 0"),
        ({"recovery_threshold": 0}, "recovery_threshold must be at least 1"),
        ({"holder_drop_out": 1.0}, r"holder_drop_out must lie in \[0, 1\)"),
        ({"key_rounds": 0}, "key_rounds must be at least 1, got 0"),
        ({"key_holder": "server"}, "key_holder must be one of authority, clients"),
        ({"encrypted_fraction": 0.0}, r"encrypted_fraction must lie in \(0, 1\]"),
        ({"server": "honest"}, "server must be one of malicious, semi_honest"),
        ({"value_bound": -1.0}, "value_bound must be positive"),
        ({"processes": True, "topology": "ring"}, "topology must be star, got ring"),
        ({"processes": True, "encrypted_fraction": 0.5}, "must be 1, got 0.5"),
        ({"processes": True, "key_holder": "clients"}, "must be authority"),
        (
            {"arithmetic": "openfhe"},
            "takes the server's word: server must be semi_honest, got malicious",
        ),
        ({"arithmetic": "gpu"}, "arithmetic must be one of xla, openfhe, got gpu"),
        (
            {**OPENFHE, "processes": True},
            "arithmetic=openfhe computes in one process: processes must be False",
        ),
        ({**OPENFHE, "topology": "tree"}, "topology must be star"),
        ({**OPENFHE, "encrypted_fraction": 0.5}, "must be 1, got 0.5"),
        (
            {**OPENFHE, "recovery_threshold": 3},
            "needs every key holder: recovery_threshold must be left out, got 3",
        ),
    ],
)
def test_impossible_settings_are_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        SumSettings(**values)
    assert str(caught.value).endswith(".")


def test_every_topology_can_be_chosen():
    for name in TOPOLOGIES:
        assert SumSettings(topology=name).topology == name


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("none", "topology"),
        ("ckks", "quantization_bits"),
        ("ckks", "recovery_threshold"),
        ("ckks", "holder_drop_out"),
        ("exact", "holder_drop_out"),
        ("exact", "precision"),
        ("exact", "protect"),
        ("exact", "query_budget"),
        ("threshold_ckks", "packing"),
        ("threshold_ckks", "key_holder"),
        ("threshold_exact", "protect"),
    ],
)
def test_settings_that_a_scheme_does_not_use_are_refused(name, setting):
    with pytest.raises(ValueError, match=f"{setting} is no setting of .* {name}"):
        SCHEMES.choose(name, {setting: 1})


def test_schemes_share_the_settings_that_concern_them_all():
    for entry in SCHEMES.entries():
        used = set(settings_of(entry))
        if entry.settings is SumSettings:
            assert {"value_bound", "topology", "processes", "key_rounds"} <= used
        assert entry.exact is ("quantization_bits" in used)

import contextlib
import re
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.aggregation import (
    SCHEMES,
    EncryptedAggregation,
    PlainAggregation,
    ProcessAggregation,
    SelectiveAggregation,
    describe,
    make,
    trust_of,
)
from fedjax_private.aggregation.sums import RangeWarning
from fedjax_private.trust import Decryptor, Trust
from tests.aggregation.sums import ENCRYPTED, decoded, encoded, made, released

needs_openfhe = pytest.mark.needs_openfhe


def described(name, uploads=3, size=10, settings=None, **arguments):
    scheme = SCHEMES.choose(name, settings)
    trust = trust_of(scheme, uploads=uploads)
    return describe(scheme, vector_size=size, trust=trust, **arguments)


# What entries say.


def test_entries_carry_the_names_by_which_they_are_found():
    assert [entry.name for entry in SCHEMES.entries()] == list(SCHEMES.names)


@pytest.mark.parametrize(
    ("name", "settings", "decryptor", "quorum"),
    [
        ("none", {}, Decryptor.NOBODY_NEEDED, None),
        ("ckks", {}, Decryptor.KEY_AUTHORITY, None),
        ("ckks", {"key_holder": "clients"}, Decryptor.EVERY_CLIENT, None),
        ("exact", {}, Decryptor.KEY_AUTHORITY, None),
        ("exact", {"key_holder": "clients"}, Decryptor.EVERY_CLIENT, None),
        # Colluders that a malicious server needs: 2T - 6, T = 5 by default; else T.
        ("threshold_ckks", {}, Decryptor.HOLDERS, 4),
        ("threshold_exact", {"recovery_threshold": 6}, Decryptor.HOLDERS, 6),
        ("threshold_exact", {"recovery_threshold": 4}, Decryptor.HOLDERS, 2),
        ("threshold_exact", {"server": "semi_honest"}, Decryptor.HOLDERS, 4),
        (
            "threshold_exact",
            {"arithmetic": "openfhe", "server": "semi_honest"},
            Decryptor.HOLDERS,
            6,
        ),
        ("masks", {}, Decryptor.UPLOADERS, 4),
        ("masks", {"recovery_threshold": 6}, Decryptor.UPLOADERS, 6),
        ("masks", {"server": "semi_honest"}, Decryptor.UPLOADERS, 4),
    ],
)
def test_the_trust_model_follows_from_the_scheme(name, settings, decryptor, quorum):
    scheme = SCHEMES.choose(name, settings)
    assert trust_of(scheme, uploads=6, honest=2) == Trust(6, decryptor, 2, quorum)


def test_what_a_scheme_protects():
    for entry in SCHEMES.entries():
        assert entry.protects(entry.settings())
    unprotected = SCHEMES.choose("ckks", {"protect": False})
    assert not unprotected.entry.protects(unprotected.settings)
    half = SCHEMES.choose("exact", {"encrypted_fraction": 0.5})
    assert half.entry.encrypted_fraction(half.settings) == 0.5
    for entry in SCHEMES.entries():
        assert entry.encrypted_fraction(entry.settings()) == 1.0


def test_missing_openfhe_is_said_beforehand(monkeypatch):
    monkeypatch.setitem(sys.modules, "openfhe", None)
    for name in ENCRYPTED:
        assert "needs OpenFHE" in SCHEMES.find(name).unavailable()
    for name in ("none", "masks"):
        assert SCHEMES.find(name).unavailable() is None


# What is refused.


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match=r"'rot13' is unknown.*none, ckks"):
        make("rot13", vector_size=2, trust=Trust(3, Decryptor.NOBODY_NEEDED))


@pytest.mark.parametrize("function", [make, describe])
def test_trust_must_name_the_schemes_decryptor(function):
    for entry in SCHEMES.entries():
        needed = entry.decryptor(entry.settings())
        for other in set(Decryptor) - {needed}:
            match = f"needs the decryptor '{needed.value}'"
            with pytest.raises(ValueError, match=match):
                function(entry, vector_size=2, trust=Trust(3, other))


def test_trust_must_name_the_schemes_quorum():
    trust = Trust(6, Decryptor.HOLDERS, quorum=6)
    with pytest.raises(ValueError, match=r"quorum of 6 holders .* one of 4"):
        describe("threshold_exact", vector_size=2, trust=trust)


@pytest.mark.parametrize("name", SCHEMES.names)
def test_empty_vectors_and_other_masks_are_refused(name):
    with pytest.raises(ValueError, match="at least one value"):
        made(name, size=0)
    with pytest.raises(ValueError, match=r"must have the shape \(10,\)"):
        made(name, encrypted=np.zeros(9, bool))


IMPOSSIBLE = {"statistical_bits": 128, "query_budget": 2**32 - 1}


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("ckks", {"value_bound": 1e30}, "smaller value bound"),
        ("exact", {"quantization_bits": 40}, "bits must lie between 2 and 24"),
        ("threshold_ckks", {"recovery_threshold": 1}, "more than half"),
        ("threshold_exact", IMPOSSIBLE, "fewer quantization bits"),
    ],
)
@pytest.mark.parametrize("function", [made, described])
def test_impossible_settings_are_refused_before_any_work(
    function, name, settings, sentence
):
    with pytest.raises(ValueError, match=sentence):
        function(name, settings=settings)


def test_impossible_quorums_are_refused():
    trust = Trust(3, Decryptor.HOLDERS)
    scheme = SCHEMES.choose("threshold_exact", {"recovery_threshold": 4})
    impossible = "recovery_threshold must be more than half of the 3 .*; got 4"
    with pytest.raises(ValueError, match=impossible):
        make(scheme, vector_size=2, trust=trust)
    with pytest.raises(ValueError, match=impossible):
        trust_of(scheme, uploads=3)
    with pytest.raises(ValueError, match="at least two holders"):
        made("threshold_ckks", 1)


def test_differential_privacy_chooses_no_entries_by_gradients():
    settings = {"encrypted_fraction": 0.2}
    text = described("ckks", settings=settings)
    assert text.endswith(
        " SELECTIVE: the server reads 80.0% of every upload's entries."
    )
    with pytest.raises(ValueError, match=r"epsilon does not cover: .* got 0\.2"):
        described("ckks", settings=settings, private=True)
    assert described("ckks", private=True) == described("ckks")


def test_processes_encrypt_everything():
    with pytest.raises(ValueError, match="processes encrypt every entry"):
        made("exact", settings={"processes": True}, encrypted=np.arange(10) < 5)


# What is made.


def test_plain_sums_have_nothing_to_describe():
    assert described("none") is None
    assert isinstance(made("none"), PlainAggregation)


@needs_openfhe
@pytest.mark.parametrize("name", ENCRYPTED)
def test_descriptions_are_those_of_what_is_made(name):
    settings = {"topology": "tree", "value_bound": 3.0}
    aggregation = made(name, settings=settings, most_uploads=5)
    assert isinstance(aggregation, EncryptedAggregation)
    assert described(name, settings=settings, most_uploads=5) == aggregation.description
    assert aggregation.request.uploads == 5
    assert aggregation.trust == trust_of(name, uploads=3)


@needs_openfhe
def test_settings_choose_the_way_to_add():
    separate = made("exact", 2, settings={"processes": True})
    with contextlib.closing(separate) as aggregation:
        assert isinstance(aggregation, ProcessAggregation)
        total, _ = released(aggregation, encoded(aggregation, np.full((2, 10), 0.25)))
        np.testing.assert_allclose(decoded(aggregation, total), 0.5, atol=1e-3)
    part = made("exact", encrypted=np.arange(10) < 5)
    assert isinstance(part, SelectiveAggregation)
    whole = made("exact", encrypted=np.ones(10, bool))
    assert isinstance(whole, EncryptedAggregation)


@needs_openfhe
def test_residues_may_be_beyond_the_range_of_an_upload():
    slots = np.full((2, 10), 1 << 15)
    with pytest.raises(ValueError, match=r"bound of 32767: .*codec"):
        released(made("exact", 2), slots)
    with pytest.warns(RangeWarning, match="a larger sum_bound"):
        total, report = released(made("exact", 2, residues=True), slots)
    np.testing.assert_array_equal(total, 0)
    assert (report.saturated, report.wrapped) == (0, 10)


# A scheme of the user's own: a file outside the library.

MASKED_SUMS = '''
"""Sums under one-time pads: clients add uniform masks mod 2^32, which cancel."""

import dataclasses
import secrets

import numpy as np

from fedjax_private import aggregation, choices
from fedjax_private.quantization import Grid, dequantize, quantize
from fedjax_private.trust import Decryptor


@dataclasses.dataclass(frozen=True)
class MaskSettings(choices.Settings):
    value_bound: float | None = choices.setting(None, "largest entry of an upload")
    quantization_bits: int | None = choices.setting(None, "bits of an entry")


class Masked:
    description = "One-time pads."

    def __init__(self, settings, task):
        grid = Grid(settings.quantization_bits or 16, settings.value_bound or 2.0)
        self.trust, self.size, self.received = task.trust, task.vector_size, []
        self.codec = aggregation.Codec(
            lambda key, vector: quantize(key, vector, grid),
            lambda total: dequantize(total, grid),
        )

    def open(self, round_number):
        return MaskedSession(self)


class MaskedSession:
    def __init__(self, scheme):
        self.scheme, self.uploads = scheme, 0
        self.masks = np.zeros(scheme.size, np.uint32)  # the authority adds them up
        self.total = np.zeros(scheme.size, np.uint32)  # the server's

    def add(self, clients, slots):
        for row in np.asarray(slots).astype(np.uint32):
            mask = np.frombuffer(secrets.token_bytes(4 * len(row)), np.uint32)
            self.scheme.received.append(row + mask)
            self.total += row + mask
            self.masks += mask
            self.uploads += 1

    def release(self):
        if self.uploads < self.scheme.trust.uploads:
            raise ValueError("too few uploads.")
        size = 4 * self.scheme.size
        report = aggregation.SessionReport(self.uploads, size, size, 0.0, 0.0, 0.0, 0.0)
        signed = (self.total - self.masks).astype(np.int32)  # mod 2^32
        return signed.astype(np.float64), report


ENTRY = aggregation.SchemeEntry(
    name="masked",
    summary="sums of whole numbers under one-time pads",
    settings=MaskSettings,
    decryptor=lambda settings: Decryptor.KEY_AUTHORITY,
    describe=lambda settings, task: Masked.description,
    make=Masked,
    exact=True,
)
nothing = "no entry"
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "masked_sums.py").write_text(textwrap.dedent(MASKED_SUMS))
    monkeypatch.syspath_prepend(tmp_path)
    yield "masked_sums:ENTRY"
    sys.modules.pop("masked_sums", None)


def test_a_scheme_of_the_users_own_is_one_like_any_other(own):
    scheme = SCHEMES.choose(own, {"quantization_bits": 20})
    assert scheme.described() == {
        "name": own,
        "value_bound": None,
        "quantization_bits": 20,
    }
    ranged = scheme.entry.ranged(scheme.settings, 3.0, 3.0, 12)
    assert (ranged.value_bound, ranged.quantization_bits) == (3.0, 20)
    assert scheme.entry.unavailable() is None
    assert described(own) == "One-time pads."
    with pytest.raises(ValueError, match="needs the decryptor 'authority'"):
        make(own, vector_size=2, trust=Trust(3, Decryptor.NOBODY_NEEDED))

    rows = np.random.default_rng(0).uniform(-0.3, 0.3, (3, 1000))
    aggregation = made(own, 3, 1000, {"quantization_bits": 20})
    slots = encoded(aggregation, rows)
    total, report = released(aggregation, slots)
    assert report.uploads == 3
    np.testing.assert_array_equal(total, slots.sum(axis=0))
    np.testing.assert_allclose(decoded(aggregation, total), rows.sum(axis=0), atol=1e-4)
    # The server saw numbers over the whole range, of vectors that cover little of it.
    assert np.std(aggregation.received) / 2**32 == pytest.approx(12**-0.5, rel=0.1)
    with pytest.raises(ValueError, match="too few"):
        released(aggregation, slots[:2])


def test_what_is_no_entry_is_refused(own):
    name = own.replace("ENTRY", "nothing")
    with pytest.raises(ValueError, match=re.escape(f"encryption={name}")):
        make(name, vector_size=2, trust=Trust(3, Decryptor.NOBODY_NEEDED))


def test_an_entry_need_not_be_registered():
    entry = SCHEMES.find("none")
    trust = trust_of(entry, uploads=2)
    aggregation = make(SCHEMES.choose(entry), vector_size=3, trust=trust)
    codec = aggregation.codec
    np.testing.assert_array_equal(codec.encode(jax.random.key(0), jnp.ones(3)), 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"trust": 3}, r"trust must be a Trust, as trust_of.*got 3"),
        (
            {"vector_size": {"w": np.zeros(3)}},
            "vector_size must be a whole number.*dict",
        ),
        (
            {"vector_size": 2.5},
            r"such as models.parameter_count\(params\) \+ 1, got 2.5",
        ),
    ],
)
def test_arguments_of_another_kind_are_named(arguments, words):
    usual = {"trust": trust_of("none", uploads=3), "vector_size": 10}
    for function in (make, describe):
        with pytest.raises(ValueError, match=words):
            function("none", **usual | arguments)

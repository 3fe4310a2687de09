import dataclasses
import math

import pytest
from hypothesis import assume, example, given, settings, strategies as st

from fedjax_private.encryption.noise import worst_error
from fedjax_private.encryption.openfhe.contexts import ring_of
from fedjax_private.encryption.parameters import Scheme, candidates, derive
from fedjax_private.encryption.primes import is_prime
from fedjax_private.encryption.settings import FLOODINGS, PACKINGS
from tests.encryption.fixtures import sum_request

# Bossuat et al. (2024), ternary secrets, 128 bits against classical attacks.
TABLE = {1024: 26, 2048: 53, 4096: 106, 8192: 214}


def request(scheme, **changes):
    holders = 8 if scheme.threshold else 1
    wanted = {"values": 65_536, "uploads": 32, "holders": holders, "value_bound": 4.0}
    return sum_request(scheme, **{**wanted, **changes})


def derived(scheme, **changes):
    return derive(request(scheme, **changes))


@st.composite
def requests(draw, schemes=tuple(Scheme)):
    scheme = draw(st.sampled_from(schemes))
    positive = st.floats(1e-12, 1e12)
    bounds = st.fixed_dictionaries({"value_bound": positive}) | st.tuples(
        positive, positive
    ).map(lambda both: {"value_bound": min(both), "sum_bound": max(both)})
    real = scheme is Scheme.CKKS and draw(st.booleans())
    return sum_request(
        scheme,
        draw(st.integers(1, 2**32 - 1) | st.integers(1, 10_000)),
        draw(st.integers(1, 2**20) | st.integers(1, 100)),
        draw(st.integers(2, 2**10)) if scheme.threshold else 1,
        **draw(bounds),
        precision=draw(positive),
        quantization_bits=draw(st.integers(2, 24)),
        protect=scheme is not Scheme.CKKS or draw(st.booleans()),
        packing="real" if real else "complex",
        statistical_bits=draw(st.integers(1, 128) | st.just(30)),
        query_budget=draw(st.integers(1, 2**32 - 1) | st.just(1600)),
        flooding=draw(st.sampled_from(FLOODINGS)),
    )


def own_variance(found):
    """Of the error of a full sum, per coefficient: N, K and the holders by hand."""
    wanted = found.request
    fresh = 3.19**2 * (1 + 4 * found.ring_dimension * wanted.holders / 3)
    return fresh * wanted.uploads


def total_noise(found):
    """Deviation of all noise in a full sum as it is decrypted."""
    # Twice with a threshold: recovery adds as many partial decryptions again.
    terms = 2 * found.request.holders if found.request.scheme.threshold else 1
    variance = own_variance(found) + terms * found.flooding_std**2
    return math.sqrt(variance)


# Sets by hand.


@pytest.mark.parametrize(
    ("scheme", "changes", "ring", "limbs", "bytes_per_value"),
    [
        # 60 - 2 - log2(14 * 3.19 sqrt(5462.3) sqrt(32)) = 43 bits: two lanes of 16 + 5,
        # or three of 9 + 5. 60 bits for each of two polynomials are 15 bytes.
        (Scheme.EXACT, {"quantization_bits": 16}, 4096, (60,), 15 / 2),
        (Scheme.EXACT, {"quantization_bits": 9}, 4096, (60,), 15 / 3),
        # One lane of 24 + 5 leaves the smaller ring: 2 * 53 bits.
        (Scheme.EXACT, {"quantization_bits": 24}, 2048, (53,), 13.25),
        # Two values a slot, N / 2 slots; 45 bits do without protective noise.
        (Scheme.CKKS, {}, 4096, (60,), 15.0),
        (Scheme.CKKS, {"protect": False}, 2048, (45,), 11.25),
        (Scheme.CKKS, {"protect": False, "precision": 1e-9}, 2048, (53,), 13.25),
        (Scheme.CKKS, {"precision": 1e-2}, 2048, (53,), 13.25),
        (Scheme.CKKS, {"packing": "real"}, 4096, (60,), 30.0),
        # The second prime, above 2^52, has 53 bits.
        (Scheme.CKKS, {"precision": 1e-9}, 4096, (53, 52), 26.5),
        (Scheme.THRESHOLD_CKKS, {}, 4096, (53, 52), 26.5),
        # log2 of 14 sqrt(2 * 8) flooding is 44.3: 106 - 2 - 45 = 59, and 50 are usable.
        (Scheme.THRESHOLD_EXACT, {"quantization_bits": 16}, 4096, (53, 53), 13.25),
    ],
)
def test_sets_worked_out_by_hand(scheme, changes, ring, limbs, bytes_per_value):
    found = derived(scheme, **changes)
    assert (found.ring_dimension, found.limb_bits) == (ring, limbs)
    assert found.bytes_per_value == bytes_per_value


def test_uploads_are_as_small_as_promised():
    assert derived(Scheme.EXACT, quantization_bits=16).bytes_per_value <= 7.5
    assert derived(Scheme.EXACT, quantization_bits=9).bytes_per_value <= 5.0
    assert derived(Scheme.THRESHOLD_EXACT, quantization_bits=16).bytes_per_value <= 16
    assert derived(Scheme.CKKS).bytes_per_value <= 15.0
    assert derived(Scheme.CKKS, protect=False).bytes_per_value <= 11.25
    assert derived(Scheme.THRESHOLD_CKKS).bytes_per_value <= 33


def test_lanes_by_hand():
    found = derived(Scheme.EXACT, quantization_bits=16)
    assert (found.lanes, found.lane_bits, found.slots) == (2, 21, 4096)
    assert found.values_per_ciphertext == 8192
    assert found.rows == 8
    # 2^42 + 2^13 k + 1 for the least k that makes it prime.
    assert found.plaintext_modulus == 4398046568449
    assert [derived(Scheme.EXACT, uploads=k).lane_bits for k in (1, 2, 3, 4, 5)] == [
        16,
        17,
        18,
        18,
        19,
    ]


def test_rows_hold_all_values_and_no_row_is_empty():
    for values, rows in ((1, 1), (8192, 1), (8193, 2), (16_384, 2), (16_385, 3)):
        assert derived(Scheme.EXACT, values=values).rows == rows
    for values, rows in ((4096, 1), (4097, 2)):
        assert derived(Scheme.CKKS, values=values).rows == rows
    for values, rows in ((2048, 1), (2049, 2)):
        assert derived(Scheme.CKKS, values=values, packing="real").rows == rows


# What holds of every set.


@given(requests())
@settings(deadline=None, max_examples=300)
def test_no_set_exceeds_the_table_of_128_bits(wanted):
    try:
        found = derive(wanted)
    except ValueError as error:
        assert "\n" not in str(error)
        assert "fewer clients." in str(error)
        return
    assert sum(found.limb_bits) <= TABLE[found.ring_dimension]
    assert found.modulus_bits == sum(found.limb_bits)
    assert max(found.limb_bits) <= 60
    # As bytes on the wire say, too.
    width = 8 * found.polynomial_bytes / found.ring_dimension
    assert width <= TABLE[found.ring_dimension]


@given(requests((Scheme.EXACT, Scheme.THRESHOLD_EXACT)))
# A plaintext modulus is at least 2N + 1, however few bits the lanes need.
@example(
    sum_request(
        Scheme.THRESHOLD_EXACT,
        1000,
        1,
        holders=1024,
        quantization_bits=2,
        statistical_bits=120,
        query_budget=2**32 - 1,
    )
)
@settings(deadline=None, max_examples=500)
def test_every_exact_set_keeps_its_noise_budget(wanted):
    try:
        found = derive(wanted)
    except ValueError:
        assume(False)
    carries = math.ceil(math.log2(wanted.uploads))
    if wanted.settings.sum_bound is None:
        assert found.lane_bits == wanted.bits + carries
    assert wanted.bits <= found.lane_bits <= wanted.bits + carries
    # The least that hold the largest sum, in both directions.
    most = 2 ** (wanted.bits - 1) - 1
    asked = wanted.sum_bound / wanted.value_bound
    assert min(asked, wanted.uploads) * most < 2 ** (found.lane_bits - 1)
    t = found.plaintext_modulus
    assert t > 2 ** (found.lanes * found.lane_bits)
    assert t.bit_length() <= 51
    assert t % (2 * found.ring_dimension) == 1
    assert is_prime(t)
    # The primes below 2^60 and 2^53 that OpenFHE takes lie within 1 percent of them.
    q = 0.99 * 2.0**found.modulus_bits
    assert q / (2 * t) >= 14 * total_noise(found)
    if wanted.worst_case:
        terms = 2 * wanted.holders if wanted.scheme.threshold else 1
        worst = worst_error(found.ring_dimension, wanted.holders, wanted.uploads)
        added = math.sqrt(terms) * found.flooding_std
        assert q / (2 * t) >= worst + 14 * added


@given(requests((Scheme.CKKS, Scheme.THRESHOLD_CKKS)))
@settings(deadline=None, max_examples=300)
def test_every_ckks_set_holds_the_sum_at_the_precision_asked_for(wanted):
    try:
        found = derive(wanted)
    except ValueError:
        assume(False)
    slot = found.sum_bound * (math.sqrt(2) if wanted.complex_packing else 1)
    largest = slot * found.scale + 14 * total_noise(found)
    assert largest <= 2.0 ** (found.modulus_bits - 1) * (1 - 2.0**-9)
    assert found.error_std(wanted.uploads) <= wanted.settings.precision * (1 + 1e-12)
    given, full = wanted.settings.sum_bound, wanted.uploads * wanted.value_bound
    assert found.sum_bound == (given or min(found.sum_bound, full))
    assert found.sum_bound >= wanted.value_bound
    assert found.lanes == found.plaintext_modulus == 0
    assert math.isfinite(found.scale) and found.scale > 0


def usable_or_refused(scheme, changes):
    try:
        found = derived(scheme, **changes)
    except ValueError as error:
        return any(part in str(error) for part in ("value bound", "from 1e-30"))
    precise = 0 < found.error_std(32) <= changes["precision"] * (1 + 1e-12)
    return precise and 0 < found.scale < math.inf


@pytest.mark.parametrize("bound", [5e-324, 1e-300, 1e-200, 1e200, 1e300, 1.7e308])
@pytest.mark.parametrize("scheme", [Scheme.CKKS, Scheme.THRESHOLD_CKKS])
def test_extreme_bounds_give_a_usable_scale_or_none(scheme, bound):
    for precision in (1e-4, 1e-200, 1e300):
        for packing in PACKINGS if scheme is Scheme.CKKS else ("complex",):
            changes = {"value_bound": bound, "precision": precision}
            assert usable_or_refused(scheme, {**changes, "packing": packing})


@given(requests())
@settings(deadline=None, max_examples=100)
def test_no_smaller_upload_serves(wanted):
    try:
        found = derive(wanted)
    except ValueError:
        assume(False)
    uploads = [other.rows * other.polynomial_bytes for other in candidates(wanted)]
    assert found.rows * found.polynomial_bytes == min(uploads)


# The flooding noise.


def test_flooding_by_hand():
    # sigma_e = 3.19 sqrt(1 + 4 * 4096 / 3) sqrt(32) = 1333.69 for K = 32;
    # sqrt(1.4 * 1600 * 4096 / 2) = 2141.85; 2^(30 / 2) = 32768.
    found = derived(Scheme.CKKS)
    assert found.flooding_std == pytest.approx(1333.69 * 2141.85 * 32768, rel=1e-5)
    # In a threshold of 8 holders: sigma_e = 3.19 sqrt(1 + 8 * 5461.33) sqrt(32), and
    # a recovery counts as a second query.
    found = derived(Scheme.THRESHOLD_CKKS)
    expected = 3771.92 * 2141.85 * math.sqrt(2) * 32768
    assert found.flooding_std == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        ({"uploads": 128}, 2),
        ({"query_budget": 6400}, 2),
        ({"statistical_bits": 34}, 4),
        # 9766 ciphertexts of 1024 slots are more than the budget.
        ({"values": 10_000_000}, math.sqrt(9766 / 1600)),
        ({"values": 1}, 1),
    ],
)
def test_flooding_grows_with_what_must_be_hidden(change, factor):
    before = derived(Scheme.CKKS, precision=1.0)
    after = derived(Scheme.CKKS, precision=1.0, **change)
    assert before.ring_dimension == after.ring_dimension == 2048
    assert after.flooding_std == pytest.approx(factor * before.flooding_std)


def test_flooding_of_the_worst_error():
    found = derived(Scheme.CKKS, flooding="worst_case", precision=1e-2)
    assert found.ring_dimension == 4096
    expected = 32 * 1091989 * math.sqrt(1600 / 2) * 32768
    assert found.flooding_std == pytest.approx(expected, rel=1e-5)
    found = derived(Scheme.THRESHOLD_EXACT, flooding="worst_case")
    expected = worst_error(found.ring_dimension, 8, 32) * math.sqrt(1600) * 32768
    assert found.flooding_std == pytest.approx(expected, rel=1e-9)


def test_what_the_worst_case_costs():
    # Bytes a value where the derived ring stays precise enough, or other rings.
    for scheme, plain, worst in (
        (Scheme.CKKS, 15.0, 26.5),
        (Scheme.THRESHOLD_CKKS, 26.5, 26.5),
        (Scheme.EXACT, 7.5, 7.5),  # which refuses what exceeds the average
        (Scheme.THRESHOLD_EXACT, 13.25, 13.25),
    ):
        bits = {"quantization_bits": 16} if scheme.exact else {}
        assert derived(scheme, **bits).bytes_per_value == plain
        found = derived(scheme, flooding="worst_case", **bits)
        assert found.bytes_per_value == worst
    # And precision, at equal bytes.
    before = derived(Scheme.THRESHOLD_CKKS).error_std(32)
    after = derived(Scheme.THRESHOLD_CKKS, flooding="worst_case").error_std(32)
    assert 2**8 < after / before < 2**9


def test_only_what_is_shown_is_flooded():
    assert derived(Scheme.CKKS, protect=False).flooding_std == 0
    assert derived(Scheme.EXACT).flooding_std == 0
    assert derived(Scheme.THRESHOLD_EXACT).flooding_std > 0


@given(requests((Scheme.CKKS, Scheme.THRESHOLD_CKKS, Scheme.THRESHOLD_EXACT)))
@settings(deadline=None, max_examples=200)
def test_flooding_covers_every_ciphertext_that_a_key_decrypts(wanted):
    try:
        found = derive(wanted)
    except ValueError:
        assume(False)
    if not wanted.settings.protect:
        assert found.sums_per_key is None
        return
    sums = found.sums_per_key
    assert sums >= 1
    shown = sums * found.rows * (2 if wanted.scheme.threshold else 1)
    # tau |e|^2 / (2 flooding^2) <= 2^-s.
    squared_norm = 1.4 * found.ring_dimension * own_variance(found)
    if wanted.worst_case:
        error = worst_error(found.ring_dimension, wanted.holders, wanted.uploads)
        assert error**2 > squared_norm
        squared_norm = error**2
    divergence = shown * squared_norm / (2 * found.flooding_std**2)
    assert divergence <= 2.0**-wanted.settings.statistical_bits * (1 + 1e-9)


def test_sums_per_key():
    # 65,536 values are 16 ciphertexts of 4096; 100 such sums spend a budget of 1600.
    assert derived(Scheme.CKKS).sums_per_key == 100
    assert derived(Scheme.CKKS, packing="real").sums_per_key == 50
    assert derived(Scheme.CKKS, query_budget=31).sums_per_key == 1
    assert derived(Scheme.CKKS, query_budget=32).sums_per_key == 2
    # Always one, and noise enough for it.
    assert derived(Scheme.CKKS, query_budget=1).sums_per_key == 1
    assert derived(Scheme.CKKS, protect=False).sums_per_key is None
    assert derived(Scheme.EXACT).sums_per_key is None
    assert derived(Scheme.THRESHOLD_EXACT).sums_per_key == 1600 // 8


def test_error_by_hand():
    # Unprotected: 3.19 sqrt(1 + 4 * 2048 / 3) sqrt(2048 / 2) an upload, over the scale.
    found = derived(Scheme.CKKS, protect=False, sum_bound=4.0)
    one = 3.19 * 52.2622 * 32 / found.scale
    assert found.error_std(1) == pytest.approx(one, rel=1e-4)
    assert found.error_std(32) == pytest.approx(one * math.sqrt(32), rel=1e-4)
    # The largest slot, 4 sqrt(2), times the scale is almost half of 2^45.
    assert found.scale == pytest.approx(2**44 * (1 - 2**-8) / (4 * 2**0.5), rel=1e-6)
    # Protected: the flooding noise, whatever was added.
    found = derived(Scheme.CKKS)
    flooded = found.flooding_std * math.sqrt(2048) / found.scale
    assert found.error_std(1) == pytest.approx(flooded, rel=1e-6)
    assert found.error_std(32) == pytest.approx(flooded, rel=1e-6)
    assert derived(Scheme.EXACT).error_std(32) == 0
    assert derived(Scheme.THRESHOLD_EXACT).error_std(32) == 0


# What cannot be had.


@pytest.mark.parametrize(
    ("scheme", "change", "message"),
    [
        (Scheme.CKKS, {"values": 0}, "values must lie between 1 and 4294967295, got 0"),
        (Scheme.CKKS, {"values": 2**32}, "values must lie between"),
        (Scheme.CKKS, {"uploads": 0}, "uploads must lie between 1 and 1048576"),
        (Scheme.CKKS, {"uploads": 2**20 + 1}, "uploads must lie between"),
        (Scheme.CKKS, {"holders": 0}, "holders must lie between 1 and 1024"),
        (Scheme.THRESHOLD_CKKS, {"holders": 1025}, "holders must lie between"),
        (
            Scheme.EXACT,
            {"quantization_bits": 1},
            "quantization_bits must lie between 2 and 24, got 1",
        ),
        (
            Scheme.EXACT,
            {"quantization_bits": 25},
            "quantization_bits must lie between 2 and 24, got 25",
        ),
        (Scheme.CKKS, {"statistical_bits": 0}, "statistical_bits must lie"),
        (Scheme.CKKS, {"statistical_bits": 129}, "statistical_bits must lie"),
        (Scheme.CKKS, {"query_budget": 0}, "query_budget must lie"),
        (Scheme.CKKS, {"query_budget": 2**32}, "query_budget must lie"),
        (Scheme.CKKS, {"value_bound": 0.0}, "value_bound must be positive and finite"),
        (Scheme.CKKS, {"value_bound": -1.0}, "value_bound must be positive and finite"),
        (Scheme.CKKS, {"value_bound": math.inf}, "value_bound must be positive"),
        (Scheme.CKKS, {"value_bound": math.nan}, "value_bound must be positive"),
        (Scheme.CKKS, {"precision": 0.0}, "precision must be positive and finite"),
        (Scheme.CKKS, {"precision": math.nan}, "precision must be positive"),
        (Scheme.CKKS, {"holders": 2}, "ckks has one key and no shares"),
        (Scheme.EXACT, {"holders": 2}, "exact has one key and no shares"),
        (Scheme.THRESHOLD_CKKS, {"holders": 1}, "at least two holders of key shares"),
        (Scheme.THRESHOLD_EXACT, {"holders": 1}, "at least two holders of key shares"),
        (Scheme.EXACT, {"protect": False}, "exact has no unprotected mode"),
        (Scheme.THRESHOLD_CKKS, {"protect": False}, "no unprotected mode: only ckks"),
    ],
)
def test_impossible_requests_are_refused(scheme, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        request(scheme, **change)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("scheme", "change", "message"),
    [
        (
            Scheme.EXACT,
            {"uploads": 2**20, "quantization_bits": 24},
            r"sums of 1048576 integers of 24 bits do not fit a ciphertext of exact at "
            r"128 bits of security .* use fewer quantization bits or fewer clients\.",
        ),
        (
            Scheme.THRESHOLD_EXACT,
            {"statistical_bits": 128, "quantization_bits": 24, "holders": 1024},
            r"ciphertext of threshold_exact .* with 128 statistical bits: use fewer",
        ),
        (
            Scheme.CKKS,
            {"value_bound": 1e20},
            r"no ciphertext of ckks at 128 bits of security holds sums of 32 vectors "
            r"with entries up to 1e\+20 within an error of 0.0001: use a smaller value "
            r"bound or sum bound, a coarser precision, a smaller query budget or fewer "
            r"clients\.",
        ),
        (Scheme.CKKS, {"precision": 1e-30}, "coarser precision"),
        (Scheme.THRESHOLD_CKKS, {"statistical_bits": 128}, "smaller query budget"),
    ],
)
def test_requests_that_no_set_serves_are_refused(scheme, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        derived(scheme, **change)
    assert "\n" not in str(caught.value)


def test_requests_and_parameters_are_immutable():
    found = derived(Scheme.CKKS)
    for value in (found, found.request):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.scheme = None
    assert hash(found) == hash(derived(Scheme.CKKS))


# What OpenFHE makes of them.


@pytest.mark.needs_openfhe
@pytest.mark.parametrize(
    ("scheme", "change"),
    [
        *((Scheme.EXACT, {"quantization_bits": bits}) for bits in (2, 7, 9, 16, 24)),
        *((Scheme.EXACT, {"uploads": k}) for k in (1, 100, 4096, 2**20)),
        (Scheme.CKKS, {}),
        (Scheme.CKKS, {"precision": 1e-2}),
        (Scheme.CKKS, {"precision": 1e-9}),
        (Scheme.CKKS, {"packing": "real"}),
        (Scheme.CKKS, {"protect": False}),
        (Scheme.CKKS, {"protect": False, "precision": 1e-9}),
        (Scheme.THRESHOLD_CKKS, {}),
        (Scheme.THRESHOLD_EXACT, {}),
        (Scheme.THRESHOLD_EXACT, {"quantization_bits": 8, "statistical_bits": 50}),
    ],
)
def test_openfhe_takes_the_ring_that_was_derived(scheme, change):
    found = derived(scheme, **change)
    ring = ring_of(found)
    assert ring.dimension == found.ring_dimension
    assert ring.limbs == len(found.limb_bits)
    assert ring.polynomial_bytes == found.polynomial_bytes
    bits = math.log2(math.prod(ring.moduli))
    assert bits == pytest.approx(found.modulus_bits, abs=0.014)
    assert bits <= TABLE[found.ring_dimension] + 1e-9
    for q in ring.moduli:
        assert is_prime(q)
        assert q % (2 * ring.dimension) == 1
    if scheme.exact:
        budget = math.prod(ring.moduli) / (2 * found.plaintext_modulus)
        assert budget >= 14 * total_noise(found)


@pytest.mark.needs_openfhe
@pytest.mark.parametrize("uploads", [1, 2, 32, 1000])
def test_noise_that_is_refused_lies_between_honest_noise_and_failure(uploads):
    parameters = derived(Scheme.EXACT, uploads=uploads)
    (q,), t = ring_of(parameters).moduli, parameters.plaintext_modulus
    sigma = 3.19 * math.sqrt(1 + 4 * parameters.ring_dimension / 3)
    for added in {1, uploads}:
        limit = parameters.largest_coefficient(added)
        assert limit == pytest.approx(t * (10 * sigma * math.sqrt(added) + added))
        # A decryption fails beyond q/2: so much is left for the message, within t.
        assert limit + t < q / 2
    # Chernoff, for the largest deviation of the variance over keys.
    assert 2 * math.exp(-(10**2) / (2 * 1.2)) < 2**-59

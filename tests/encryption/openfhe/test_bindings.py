"""What OpenFHE's bindings lack, which is why there is arithmetic of our own.

docs/howto/openfhe.md states all of this. Where a newer OpenFHE fails a test here, the
code that the test is named by may have become superfluous.
"""

import math

import numpy as np
import pytest

from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.openfhe.contexts import context_for
from fedjax_private.encryption.parameters import Scheme
from fedjax_private.encryption.primes import prime_above
from tests.encryption.openfhe.cases import parameters_of
from tests.encryption.openfhe.crossing import serialised

pytestmark = pytest.mark.needs_openfhe

TWO_LANES = prime_above(42, 2**15)  # of 16 bits, with carries


def generated(settings):
    """The context of settings at 128 bits, for sums."""
    openfhe = load().openfhe
    settings.SetMultiplicativeDepth(0)
    settings.SetKeySwitchTechnique(openfhe.BV)
    settings.SetSecurityLevel(openfhe.HEStd_128_classic)
    context = openfhe.GenCryptoContext(settings)
    for feature in (openfhe.PKE, openfhe.KEYSWITCH, openfhe.LEVELEDSHE):
        context.Enable(feature)
    context.Enable(openfhe.MULTIPARTY)
    return context


def test_flooding_of_partial_decryptions_has_one_size_and_no_ckks():
    openfhe = load().openfhe
    mode = openfhe.NOISE_FLOODING_MULTIPARTY
    with pytest.raises(RuntimeError, match="not available for CKKSRNS"):
        openfhe.CCParamsCKKSRNS().SetMultipartyMode(mode)
    settings = openfhe.CCParamsBFVRNS()
    for setter in settings.SetNumAdversarialQueries, settings.SetStatisticalSecurity:
        with pytest.raises(RuntimeError, match="not available for BFVRNS"):
            setter(40)
    settings.SetMultipartyMode(mode)
    settings.SetPlaintextModulus(TWO_LANES)
    context = generated(settings)
    # Four times the ring and twice the modulus of ours.
    assert context.GetRingDimension() == 16384
    assert math.log2(context.GetModulus()) > 220
    ours = parameters_of(Scheme.THRESHOLD_EXACT, 26_011, uploads=32)
    assert (ours.ring_dimension, ours.modulus_bits, ours.lanes) == (4096, 106, 2)


def test_flooding_of_decryptions_counts_one_query():
    openfhe = load().openfhe
    for queries, bits in ((2, 30), (1600, 30), (1, 40)):
        settings = openfhe.CCParamsCKKSRNS()
        settings.SetDecryptionNoiseMode(openfhe.NOISE_FLOODING_DECRYPT)
        settings.SetNumAdversarialQueries(queries)
        settings.SetStatisticalSecurity(bits)
        with pytest.raises(RuntimeError, match="NOISE_FLOODING_MULTIPARTY only"):
            generated(settings)


def test_decryptions_of_complex_slots_carry_no_noise():
    context = context_for(load().openfhe, parameters_of(Scheme.CKKS))
    pair = context.KeyGen()
    row = np.arange(4.0) + 0j
    ciphertext = context.Encrypt(pair.publicKey, context.MakeCKKSPackedPlaintext(row))
    first, second = (context.Decrypt(pair.secretKey, ciphertext) for _ in range(2))
    values = [each.GetCKKSPackedValueArray().tolist() for each in (first, second)]
    assert values[0] == values[1]
    assert not np.array_equal(values[0][:4], row)  # the error itself


def test_threshold_bgv_is_wrong_in_silence():
    """Its noise is multiplied by t, and so beyond a modulus that fits the ring."""
    openfhe = load().openfhe
    settings = openfhe.CCParamsBGVRNS()
    settings.SetPlaintextModulus(TWO_LANES)
    settings.SetFirstModSize(60)
    settings.SetScalingTechnique(openfhe.FIXEDMANUAL)
    settings.SetRingDim(4096)
    context = generated(settings)
    lead = context.KeyGen()
    main = context.MultipartyKeyGen(lead.publicKey)
    row = np.arange(4096)
    ciphertext = context.Encrypt(main.publicKey, context.MakePackedPlaintext(row))
    (first,) = context.MultipartyDecryptLead([ciphertext], lead.secretKey)
    (second,) = context.MultipartyDecryptMain([ciphertext], main.secretKey)
    fused = context.MultipartyDecryptFusion([first, second])
    fused.SetLength(4096)
    assert np.count_nonzero(fused.GetPackedValueArray() == row) < 5


def test_recovery_puts_a_whole_key_together():
    context = context_for(load().openfhe, parameters_of(Scheme.THRESHOLD_EXACT))
    lost, other = context.KeyGen().secretKey, context.KeyGen().secretKey
    with pytest.raises(RuntimeError, match="majority"):
        context.ShareKeys(lost, 4, 2, 1, "shamir")
    shares = context.ShareKeys(lost, 5, 3, 1, "shamir")
    context.RecoverSharedKey(
        other, {place: shares[place] for place in (2, 4, 5)}, 5, 3, "shamir"
    )
    # The key's polynomial follows its name.
    assert serialised(other)[-50_000:] == serialised(lost)[-50_000:]


def test_coefficients_of_exact_plaintexts_are_short():
    context = context_for(load().openfhe, parameters_of(Scheme.EXACT))
    assert len(context.MakePackedPlaintext([2**33]).GetPackedValueArray()) > 0
    with pytest.raises(RuntimeError, match="larger than 32 bits"):
        context.MakeCoefPackedPlaintext([2**33])

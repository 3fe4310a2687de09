from fedjax_private.inference.planning.flooding import leakage, least_flooding_bits


def test_leakage_by_hand():
    # N / 2 over 4^f for each ciphertext.
    assert leakage(8192, 6, 1) == 1.0
    assert leakage(8192, 8, 16) == 1.0
    assert least_flooding_bits(8192, 1, 1.0) == 6
    assert least_flooding_bits(8192, 1, 0.9) == 7
    assert least_flooding_bits(8192, 1, 1e9) == 0

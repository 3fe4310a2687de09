"""Sums under pairwise masks: secure aggregation without ciphertexts of vectors.

Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal and Seth, "Practical
Secure Aggregation for Privacy-Preserving Machine Learning" (CCS 2017); the sparse graph
of Bell, Bonawitz, Gascon, Lepoint and Raykova, "Secure Single-Server Aggregation with
(Poly)Logarithmic Overhead" (CCS 2020).

    seeds, packing, graphs <- rosters <- client, server

Nothing here needs OpenFHE or JAX.
"""

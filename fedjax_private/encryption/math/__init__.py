"""Exact arithmetic on polynomials modulo primes, and what is encoded in them.

    modular, entropy, rings, packing <- shamir, kernels <- polynomials <- plaintexts

`kernels` is the one file that imports JAX; `polynomials` imports it when it first
computes.
"""

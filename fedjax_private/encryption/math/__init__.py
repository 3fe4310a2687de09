"""Exact arithmetic on polynomials modulo primes, and what is encoded in them."""

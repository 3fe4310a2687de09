"""From a circuit to the plan of its encrypted evaluation. Holds no keys or ciphertexts.

In order of import: `rings`, `polynomials` and `flooding`; `layouts` and `rotations`;
`errors`, `schedule` and `costs`; `packings`; `public`, the clients' part; `plan`.
"""

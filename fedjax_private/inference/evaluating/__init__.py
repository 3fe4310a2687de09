"""Both sides of a session, on ciphertexts.

In order of import: `ckks`, the arithmetic; `expansion` and `keys`, what is sent;
`batch` and `single`, a program in either packing; `querier`, the client; `evaluator`,
the server.
"""

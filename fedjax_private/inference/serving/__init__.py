"""Predictions on encrypted images as an HTTP service, and its clients.

In order of import: `access`, `frames`, `offer` and `head`; `worker`, a session's
process; `sessions`; `service`, the server; `remote`, the client.
"""

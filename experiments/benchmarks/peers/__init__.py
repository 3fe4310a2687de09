"""Other libraries at the same work, each in a virtual environment of its own.

On this side: `registry`, `environments`, `client`. On the other side `worker` runs in a
peer's environment. There only NumPy, the peer's own packages and the files of this
folder are importable, by bare name: `registry`, `work`, `cases`, and a module a peer
and suite. So none of these imports `experiments` or `fedjax_private`.
"""

"""Everything that knows OpenFHE, which makes keys and encryptions of zero.

    backend, templates <- contexts <- schemes, reference

`backend` imports OpenFHE, when it is first needed. `contexts` turns parameters into
OpenFHE's contexts and reads the rings that it chooses, `templates` moves residues into
and out of its serialised objects, and `schemes` has the operations that sums need.
`reference` has the same operations by OpenFHE's bindings alone: read it first.
"""

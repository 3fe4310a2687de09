"""What `experiments.benchmark` measures.

`measure` times a case; `suites` finds suites by name. Each suite is an entry at the end
of its file: `learning`, `encryption`, `inference`, `accounting`, `sweeping`,
`communication`. `peers` has the other libraries that a case is compared with.
"""

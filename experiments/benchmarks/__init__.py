"""What `experiments.benchmark` measures: one file a suite, and how it is timed."""

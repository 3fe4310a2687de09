"""Both sides of one encrypted prediction: the querier and the evaluator."""

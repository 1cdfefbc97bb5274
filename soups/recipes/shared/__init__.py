"""Parts that several recipes use: the pool, acceptance rules, budgets, task vectors, means."""

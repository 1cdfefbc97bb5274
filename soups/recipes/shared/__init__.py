"""What recipes have in common: the pool, acceptance, budgets, task vectors, means."""

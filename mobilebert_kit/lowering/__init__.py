"""How each delegate wants the model's primitives: `cpu` is the base, every other file holds what its delegate needs."""

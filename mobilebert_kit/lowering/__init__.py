"""How each delegate wants the model's primitives: `cpu` is the base, another file holds what differs."""

"""What the zeros of a model are worth: where they are, in which pattern, and how small they make its file."""

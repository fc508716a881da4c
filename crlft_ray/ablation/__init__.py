"""A controlled world in which the truth of every answer is known, to see what each part of C-RLFT does."""

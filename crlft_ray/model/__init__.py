"""The model as training and evaluation run it: packed sequences in, one cross-entropy per learned token out."""

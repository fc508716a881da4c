"""Tests, one folder for each package of crlft_ray."""

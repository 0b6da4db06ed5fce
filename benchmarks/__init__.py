"""Measurements of `transfer`, each a script that puts the alternative beside it."""

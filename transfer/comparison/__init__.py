"""Comparison of finished scores: `transfer compare`, and the tables and plots of the report."""

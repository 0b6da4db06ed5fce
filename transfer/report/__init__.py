"""The report: one HTML page with a pipeline's results and the provenance of each."""

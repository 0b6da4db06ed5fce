"""The page of pictures: what a pipeline's results are, and where each of them comes from."""

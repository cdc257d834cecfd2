"""That the benchmark reckons as it says."""

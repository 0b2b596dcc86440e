"""Training a population of runs, each under its own learning-rate curve."""

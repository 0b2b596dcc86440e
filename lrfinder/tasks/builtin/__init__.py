"""Built-in tasks: small, real, and without a download.

Each module has a factory ``make_task()``. The names below are what the command line takes.
"""

BUILT_IN = {
    "digits": "8x8 images of digits, MLP 64-128-10, SGD with momentum (scikit-learn, 1797 rows)",
    "digits_cnn": "the same images, small CNN with batch normalisation, AdamW",
    "diabetes": "regression on 10 columns, MLP 10-64-64-1, Adam (scikit-learn, 442 rows)",
    "linear": "one linear layer, mean squared error, StepLR(30) over 100 epochs of one batch",
    "quadratic": "(w + 1)**2 from w = 5, gradient descent, 40 updates",
    "classifier": "synthetic two-class data, MLP 20-64-2, Adam, cosine annealing over 10 epochs",
}
"""Name of each built-in task, and what it is."""

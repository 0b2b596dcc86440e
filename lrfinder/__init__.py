"""Which initial learning rate, and which decay? Range tests and decay studies for PyTorch.

>>> import lrfinder
>>> task = lrfinder.load_task("quadratic")
>>> curve = lrfinder.range_test(task, seeds=2)
>>> curve.suggest().verdict
'suggested'

Names are loaded when they are first used, so that importing the package is cheap.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
# Values show themselves in a notebook by `html`, which is no name for users.
__all__ = [name for name in __all__ if name != "html"]  # pyright: ignore[reportUnsupportedDunderAll]

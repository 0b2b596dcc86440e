"""The built-in tasks under the name they had before 0.1.0; scripts of older runs import it."""

from lrfinder.tasks.builtin import BUILT_IN as BUILT_IN
from lrfinder.tasks.builtin import __path__ as __path__

"""``python -m lrfinder``: the same as the ``lrfinder`` command."""

import sys
from pathlib import Path

if __name__ == "__main__":
    if sys.path[0] == str(Path.cwd()):  # as the command, it takes no library from there
        sys.path.append(sys.path.pop(0))
    from lrfinder.cli import main

    main()

"""Print every dependency of pyproject.toml but PyTorch at its lower bound, one per line for pip."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
for requirement in project["dependencies"]:
    name, at_least, bound = requirement.partition(">=")
    if name != "torch" and at_least:
        sys.stdout.write(f"{name}=={bound.partition(',')[0]}\n")

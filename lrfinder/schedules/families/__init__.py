"""The decay families and growths: one entry each, with torch's class, search space and code."""

"""A table of results as Markdown."""

import pandas as pd


def markdown(table: pd.DataFrame) -> str:
    """Return the table without its index; floats with three digits."""

    def cell(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)

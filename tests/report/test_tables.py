"""Tables of text: what a narrow terminal has room for."""

import pytest

from lrfinder.report.tables import PARAMETERS, Table

HEADER = ("", "lr", PARAMETERS, "loss", "to the best", "accuracy", "seeds")
ROW = ("inverse_time", "0.638", "staircase=False, decay_rate=0.5", "0.125", "best", "0.97", "22")
TABLE = Table(HEADER, (ROW, ("constant", "0.1", "", "0.1167", "+0.0108", "0.97", "22")))


@pytest.mark.parametrize("width", range(30, 130))
def test_no_line_is_longer_than_the_terminal_and_no_number_is_cut(width):
    shown = TABLE.within(width, PARAMETERS)
    least = sum(map(len, ("inverse_time", "0.638", "0.1167", "to the best"))) + 3 * 2
    assert shown.width(PARAMETERS) <= max(width, least)
    kept = [cell for name, cell in zip(HEADER, ROW, strict=True) if name in shown.header]
    assert list(shown.rows[0]) == kept


def test_the_last_columns_go_first_and_then_the_one_that_may_be_broken():
    assert TABLE.within(200, PARAMETERS) == TABLE
    assert TABLE.within(TABLE.width(PARAMETERS), PARAMETERS) == TABLE
    assert TABLE.within(TABLE.width(PARAMETERS) - 1, PARAMETERS).header == HEADER[:-1]
    assert TABLE.within(58, PARAMETERS).header == HEADER[:5]
    assert TABLE.within(57, PARAMETERS).header == ("", "lr", "loss", "to the best")

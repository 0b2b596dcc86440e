"""Act 1: learning rates that grow, a few that stay, and the one that they suggest.

`range_test` trains (`trainings`) and gives a `Curve`, which holds what was measured.

    chance       whether a fall of the loss is learning, or chance
    rules        from a Curve's losses to a learning rate with an interval, or to none
"""

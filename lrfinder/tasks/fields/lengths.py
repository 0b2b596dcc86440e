"""How long a training is: in passes over the data, or in updates."""

from lrfinder.errors import InvalidArgument

EPOCHS = 10
"""Of a training whose length nobody has told, and evaluations of one that is told in updates."""


def in_epochs(updates: int, steps_per_epoch: int | None, epochs: int) -> tuple[int, int]:
    """How many updates make an epoch, and how many epochs so many updates make.

    An epoch of such a training is what lies between two evaluations. Raises InvalidArgument where
    it is no whole number of updates.
    """
    if steps_per_epoch is None:
        if updates % epochs:
            raise InvalidArgument(
                "updates must be a multiple of epochs, the number of evaluations, but got "
                f"updates={updates}, epochs={epochs}; take updates={_next(updates, epochs)}"
            )
        return updates // epochs, epochs
    if updates % steps_per_epoch:
        raise InvalidArgument(
            "updates must be a multiple of steps_per_epoch, the updates between two evaluations, "
            f"but got updates={updates}, steps_per_epoch={steps_per_epoch}; "
            f"take updates={_next(updates, steps_per_epoch)}"
        )
    made = updates // steps_per_epoch
    if epochs not in (EPOCHS, made):
        raise InvalidArgument(
            f"updates={updates} with steps_per_epoch={steps_per_epoch} are {made} epochs, but got "
            f"epochs={epochs}; leave one of them out"
        )
    return steps_per_epoch, made


def _next(updates: int, part: int) -> int:
    """The multiple of the part that is next to so many updates, and not below one part."""
    return max(1, round(updates / part)) * part

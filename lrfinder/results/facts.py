"""Objects and values of summary.json. A number that is not finite is null there and nan here."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number, or nan where it was not finite."""
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
"""A learning rate."""


class Facts(BaseModel):
    """Keys of one object in the file; further keys are kept as they are."""

    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)


def jsonable(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    """Return the value as strict JSON can hold it: nan and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value

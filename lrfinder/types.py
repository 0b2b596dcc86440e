"""The words of a few options, and the value of a schedule's parameter; nothing heavy is loaded."""

from typing import Literal

Direction = Literal["minimize", "maximize"]
"""Which way of a measure is better."""
Every = Literal["batch", "epoch"]
"""How often the lr of a range test grows."""
Growth = Literal["exponential", "linear"]
"""How the lr of a range test grows: by equal ratios or by equal differences."""
Per = Literal["epoch", "batch"]
"""How often a schedule is stepped."""
EngineName = Literal["auto", "sequential", "batched"]
"""Which trainer is asked for."""
Device = Literal["auto", "cpu", "cuda", "mps"]
"""Where it is trained; auto takes an accelerator where there is one."""
Value = int | float | bool | str
"""Value of a schedule's parameter."""
CodeKind = Literal["torch", "function", "lightning", "transformers", "skorch"]
"""What code is written for."""

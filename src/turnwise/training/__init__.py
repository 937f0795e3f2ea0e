"""Training: a step, the loop around it, and what a run is told and leaves behind.

`config` and `observer` are light; import the others by their own names (`training.step`,
`training.loop`, `training.methods` …), so that reading a config does not load a model library.
"""

__all__: list[str] = []

"""Scenario generator, user and outcome: one file per task."""

from turnwise.tasks.protocol import Scenario, Task

__all__ = ["Scenario", "Task"]

"""Strings become functions here: the command line, its settings, its progress, its jobs.

A command is a thin shell around a function of `jobs`; everything heavy is imported by the command
that needs it, so that `turnwise --help` answers at once.
"""

__all__: list[str] = []

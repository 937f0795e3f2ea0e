"""What a setting of this room may be. No equation lives here."""

from turnwise.errors import ConfigError


def check_positive(name: str, value: float) -> None:
    """Raises ConfigError naming the setting unless it is above 0 (NaN is not)."""
    if not value > 0:
        raise ConfigError(f"expected {name} > 0, got {value}; choose a positive number")


def check_not_negative(name: str, value: float) -> None:
    """Raises ConfigError naming the setting unless it is 0 or more (NaN is not)."""
    if not value >= 0:
        raise ConfigError(f"expected {name} >= 0, got {value}; choose 0 or a positive number")


def check_share(name: str, value: float) -> None:
    """Raises ConfigError naming the setting unless it is in [0, 1]."""
    if not 0 <= value <= 1:
        raise ConfigError(f"expected {name} in [0, 1], got {value}; choose a number between them")

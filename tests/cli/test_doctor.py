"""The doctor sees what is missing and says how to get it."""

from pathlib import Path

from turnwise.cli.doctor import findings, requirement_finding


def test_a_missing_package_comes_with_its_command() -> None:
    found = requirement_finding("no-such-package-of-turnwise>=1.0")
    assert (found.is_good, found.found) == (False, "missing")
    assert found.advice == "python -m pip install 'no-such-package-of-turnwise>=1.0'"


def test_an_old_package_is_no_better_than_none() -> None:
    found = requirement_finding("pytest>=9999.1")
    assert not found.is_good
    assert "needs 9999.1 or later" in found.found
    assert requirement_finding("pytest>=1").is_good
    assert requirement_finding("pytest").is_good


def test_this_machine_can_run_the_tests(tmp_path: Path) -> None:
    found = {one.what: one for one in findings(tmp_path / "not" / "there")}
    assert {"python", "torch", "cores", "memory", "disk", "cuda"} <= set(found)
    assert [one for one in found.values() if not one.is_good] == []
    assert str(tmp_path) in found["disk"].found

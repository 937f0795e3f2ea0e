"""A file and overrides become a RunConfig; a mistake names its key and what would be right."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise import iteration
from turnwise.cli.fields import settings
from turnwise.cli.settings import load_config, load_settings, parsed_override
from turnwise.errors import ConfigError
from turnwise.iteration import IterateConfig
from turnwise.tasks import make
from turnwise.training.config import RunConfig
from turnwise.training.presets import resolved


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "")) == RunConfig()


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "seed = 1\n[train]\nmax_steps = 7\nlearning_rate = 1\n")
    config = load_config(path, ["train.max_steps=3", "method.credit=uniform"])
    assert (config.seed, config.train.max_steps, config.train.learning_rate) == (1, 3, 1.0)
    assert config.method.credit == "uniform"


def test_only_given_keys_count_as_given(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, '[method]\npreset = "paper"\n'), ["prm.beta=0.1"])
    assert config.method.model_fields_set == {"preset"}
    assert config.prm.model_fields_set == {"beta"}


def test_the_folder_of_a_run_stands_for_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("seed = 5\n", encoding="utf-8")
    assert load_config(tmp_path).seed == 5


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.max_steps=10", 10),
        ("train.learning_rate=1e-3", 1e-3),
        ("train.learning_rate=.5", 0.5),
        ("model.full_weights=true", True),
        ("model.name=tiny", "tiny"),
        ("model.name=3", "3"),
        ('model.name="a b"', "a b"),
        ("output_dir=runs/a=b", "runs/a=b"),
        ("rollout.max_turns=none", None),
        ("rollout.max_turns=3", 3),
        ("method.scale=none", "none"),
        ("task.knobs.mode=topics", "topics"),
        ("task.knobs.vague_rate=0.5", 0.5),
    ],
)
def test_an_override_is_read_as_its_setting_is(override: str, value: object) -> None:
    parsed = parsed_override(override)[1]
    assert parsed == value
    assert type(parsed) is type(value)


@given(st.text(max_size=20))
def test_no_value_can_smuggle_in_a_second_key(raw: str) -> None:
    key, value = parsed_override(f"task.knobs.x={raw}")
    assert key == "task.knobs.x"
    assert not isinstance(value, dict) or raw.strip().startswith("{")


@pytest.mark.parametrize("override", ["train", "=3", "train..max_steps=3", ".seed=1"])
def test_an_override_of_another_form_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="expected key=value"):
        parsed_override(override)


def test_an_unknown_key_names_the_nearest_and_the_section(tmp_path: Path) -> None:
    text = complaint(written(tmp_path, "[train]\nmax_stepz = 1\n"))
    assert "unknown key train.max_stepz; did you mean train.max_steps?" in text
    assert "[train] knows: max_steps, num_problems" in text


def test_a_key_in_the_wrong_section_is_sent_to_its_own(tmp_path: Path) -> None:
    assert "did you mean train.max_steps?" in complaint(written(tmp_path, "max_steps = 1\n"))


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("method.credit=itpo-nrm", ['"trajectory"', '"oracle"', 'did you mean "itpo-norm"?']),
        ("method.estimator=grppo", ['"implicit-value"', 'did you mean "grpo"?']),
        ("train.max_steps=ten", ["an integer of at least 1", '"ten"']),
        ("train.max_steps=0", ["an integer of at least 1", "found 0"]),
        ("train.max_steps=true", ["an integer of at least 1", "found True"]),
        ('train.max_steps="3"', ["an integer of at least 1", 'found "3"']),
        ("method.turn_discount=1.5", ["a number of at least 0 and of at most 1", "found 1.5"]),
        ("model.full_weights=1", ["true or false", "found 1"]),
        ("rollout.max_turns=x", ["an integer of at least 1 or none", 'found "x"']),
        ("train=3", ["train is a section", "max_steps"]),
        ("task.knobs.x=[1]", ["task.knobs.x", "true, false, a number or text", "[1]"]),
    ],
)
def test_a_wrong_value_names_key_found_and_allowed(
    tmp_path: Path, override: str, parts: list[str]
) -> None:
    text = complaint(written(tmp_path, ""), override)
    assert text.startswith(f"override {override}: ")
    assert [part for part in parts if part not in text] == []


def test_all_mistakes_are_told_at_once_and_once_each(tmp_path: Path) -> None:
    path = written(tmp_path, 'seed = "x"\n[task.knobs]\na = [1]\n')
    lines = complaint(path, "prm.beta=-1").splitlines()
    assert [line.split(": ")[1] for line in lines] == ["seed", "task.knobs.a", "prm.beta"]
    assert lines[0].startswith(str(path))


def test_a_syntax_error_names_line_and_column(tmp_path: Path) -> None:
    text = complaint(written(tmp_path, "seed = 1\noutput_dir = runs\n"))
    assert "run.toml is not TOML" in text
    assert "line 2, column 14" in text


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    written(tmp_path, "")
    assert f"did you mean {tmp_path / 'run.toml'}?" in complaint(tmp_path / "run")
    assert "there are run.toml" in complaint(tmp_path / "xyzzy")
    assert "the TOML file comes first" in complaint(Path("seed=3"))


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "expected UTF-8 text" in complaint(path)


@pytest.mark.parametrize(
    ("credit", "place", "found"),
    [
        ("{itpo = 1.0, infopo = -1.0}", "method.credit.infopo", "-1.0"),
        ("{infopo = inf}", "method.credit.infopo", "inf"),
        ("{infopo = nan}", "method.credit.infopo", "nan"),
        ("{infopo = 'much'}", "method.credit.infopo", '"much"'),
        ("{infopo = {start = 1.0, end = -2.0, steps = 3}}", "method.credit.infopo.end", "-2.0"),
        ("{infopo = {start = 1.0, end = 0.0, steps = 3, after = 4}}",
         "method.credit.infopo.after", "4"),
    ],
)  # fmt: skip
def test_a_weight_that_is_none_is_named_with_its_credit(
    tmp_path: Path, credit: str, place: str, found: str
) -> None:
    text = complaint(written(tmp_path, f"[method]\ncredit = {credit}\n"))
    assert f"{place}: expected a weight, a finite number of at least 0" in text
    assert text.endswith(f"found {found}")
    assert "\n" not in text


def test_an_unknown_credit_of_a_sum_names_the_nearest(tmp_path: Path) -> None:
    text = complaint(written(tmp_path, "[method.credit]\nitpo-nrm = 1.0\n"))
    assert text.endswith('found "itpo-nrm"; did you mean "itpo-norm"?')


def test_every_default_is_allowed_by_its_own_words() -> None:
    for setting in settings().values():
        if setting.default == "none":
            assert setting.is_optional, setting.key
        elif setting.choices:
            assert setting.default.strip('"') in setting.choices, setting.key


RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_understood(path: Path) -> None:
    config: RunConfig | IterateConfig
    if "turnwise iterate" in path.read_text(encoding="utf-8"):
        config = iteration.resolved(load_settings(IterateConfig, path))
    else:
        config = resolved(load_config(path))
    make(config.task.name, config.task.preset, config.task.knobs)

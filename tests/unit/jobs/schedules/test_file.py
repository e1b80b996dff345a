from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import ScheduleError
from jobs.expansion.expansion import Variant
from jobs.schedules.file import MAX_NAME, Schedule, WrongSchedule, describe, load

GOOD = """
[[schedule]]
name = "nightly"
cron = "0 2 * * *"
file = "prompts.jsonl"
"""

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write schedules.toml beside a prompts file."""
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "x"}\n', encoding="utf-8")

    def write(text: str | bytes) -> Path:
        path = tmp_path / "schedules.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def right(path: Path) -> list[Schedule]:
    return [one for one in load(path) if isinstance(one, Schedule)]


def refusal(path: Path) -> list[str]:
    """Return the lines of what is wrong with the file or single schedules; the first names the file."""
    try:
        wrong = describe(path, load(path))
    except ScheduleError as error:
        wrong = str(error)
    first, *lines = wrong.splitlines()
    assert first == f"{path}: {len(lines)} error{'s' if len(lines) > 1 else ''}"
    return [line.strip() for line in lines]


def test_no_file_and_an_empty_file_have_no_schedules(tmp_path: Path, write: Write) -> None:
    assert load(tmp_path / "schedules.toml") == ()
    assert load(write("# later\n")) == load(write("schedule = []")) == ()


def test_what_is_not_given_is_skip_catch_up_and_the_machines_zone(write: Write, tmp_path: Path) -> None:
    (schedule,) = right(write(GOOD))
    assert schedule == Schedule(
        "nightly", "0 2 * * *", tmp_path / "prompts.jsonl", None, None, overlap="skip", catch_up=True
    )
    assert str(schedule.zone) == "local"
    assert schedule.times == "0 2 * * * local"


def test_everything_can_be_given(write: Write) -> None:
    more = 'model = "owner/model"\ntimezone = "Europe/Berlin"\noverlap = "allow"\ncatch_up = false\n'
    (schedule,) = right(write(GOOD + more))
    assert (schedule.model, schedule.overlap, schedule.catch_up) == ("owner/model", "allow", False)
    assert schedule.times == "0 2 * * * Europe/Berlin"


@pytest.mark.parametrize(("written", "micro"), [("12", 12_000_000), ("0.1", 100_000), ("1e-6", 1)])
def test_a_schedule_may_have_a_budget(write: Write, written: str, micro: int) -> None:
    (schedule,) = right(write(f"{GOOD}max_predictions = 500\nmax_cost = {written}\n"))
    assert (schedule.max_predictions, schedule.max_cost) == (500, micro)


def test_a_schedule_may_limit_what_is_in_flight(write: Write) -> None:
    (schedule,) = right(write(f"{GOOD}max_in_flight = 20\n"))
    assert schedule.max_in_flight == 20


def test_schedules_keep_the_order_of_the_file(write: Write) -> None:
    schedules = right(write(GOOD + GOOD.replace("nightly", "weekly") + GOOD.replace("nightly", "a")))
    assert [schedule.name for schedule in schedules] == ["nightly", "weekly", "a"]


def test_the_prompts_file_is_looked_for_beside_the_schedules(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(GOOD)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert right(path)[0].file == tmp_path / "prompts.jsonl"
    assert right(write(GOOD.replace("prompts.jsonl", str(tmp_path / "prompts.jsonl"))))[0].file.is_absolute()


def test_a_schedule_may_make_many_rows_of_one(write: Write) -> None:
    more = """
each = ["seed=1..4", "guidance=3,7"]
repeat = 2
template = "a {red|blue} {name}"
sample = 1
sample_seed = 9
map = ["caption=name"]
model_check = false
allow_unknown = true
copy_inputs = true
keep_uploads = true
confirm_above = 0.25
"""
    plain, schedule = right(write(GOOD.replace("nightly", "plain") + GOOD + more))
    assert plain.expansion is None
    assert schedule.expansion
    rows = list(schedule.expansion.variants(Variant("a", None, {"name": "fox"}), {}))
    assert len(rows) == len({row.id for row in rows}) == 16
    assert schedule.expansion.columns == {"caption": "name"}
    assert (schedule.model_check, schedule.allow_unknown) == (False, True)
    assert (schedule.copy_inputs, schedule.keep_uploads, schedule.confirm_above) == (True, True, 250_000)


def test_options_that_exclude_each_other_are_one_error(write: Write) -> None:
    (problem,) = refusal(write(GOOD + 'template = "a"\ndynamic_prompts = true\n'))
    assert problem == "line 6: template: template and dynamic_prompts exclude each other"


@pytest.mark.parametrize(
    ("line", "number", "reason"),
    [
        ('name = "a b"', 3, "name: 'a b' is not 1 to 47 characters"),
        ('name = ""', 3, "name: '' is not 1 to 47 characters"),
        ('name = "../../x"', 3, "name: '../../x' is not 1 to 47 characters"),
        ('name = "index.html"', 3, "name of one of the batch's own files"),
        (f'name = "{"n" * (MAX_NAME + 1)}"', 3, "is not 1 to 47 characters"),
        ("name = 3", 3, "name must be text in quotes"),
        ('cron = "0 0 2 * * *"', 4, "'0 0 2 * * *' has 6 fields; cron takes five: minute, hour,"),
        ('cron = "0 25 * * *"', 4, "cron: '0 25 * * *': bad hour"),
        ('cron = "0 0 31 2 *"', 4, "bad day-of-month"),
        ('cron = "0 0 */31 * 1#5"', 4, "never fires"),
        ('file = ""', 5, "file: '' is no path of a file"),
        ('file = "a\\u0000b"', 5, "is no path of a file"),
        ("file = false", 5, "file must be text in quotes"),
        ('model = "gpt"', 6, "model: 'gpt' is not a model"),
        ('timezone = "Berlin"', 6, "timezone: 'Berlin' is not a time zone"),
        ('overlap = "queue"', 6, """overlap: 'queue' is neither "skip" nor "allow\""""),
        ("overlap = []", 6, "overlap must be text in quotes"),
        ("max_predictions = 0", 6, "max_predictions: 0 is not between 1 and"),
        ("max_predictions = 2.5", 6, "max_predictions must be a whole number"),
        ("max_predictions = true", 6, "max_predictions must be a whole number"),
        ("max_in_flight = 0", 6, "max_in_flight: 0 is not between 1 and"),
        ("max_cost = 0", 6, "max_cost: it must be above 0 dollars"),
        ("max_cost = -1.5", 6, "max_cost: '-1.5' is no amount"),
        ("max_cost = nan", 6, "max_cost: 'nan' is no amount"),
        ("max_cost = 1e99", 6, "dollars are too many"),
        ('max_cost = "5"', 6, "max_cost must be a number of dollars"),
        ("catch_up = 1", 6, "catch_up must be true or false"),
        ('catch_up = "true"', 6, "catch_up must be true or false"),
        ("confirm_above = -1", 6, "confirm_above: '-1' is no amount"),
        ("model_check = 0", 6, "model_check must be true or false"),
        ('each = "seed=1..4"', 6, "each must be a list of texts in quotes"),
        ("each = [1]", 6, 'each: each entry is text in quotes, as in ["seed=1..4"]'),
        ('each = ["seed=5..1"]', 6, "each: seed: '5..1' counts down"),
        ("repeat = 0", 6, "repeat: 0 is not between 1 and 1000000"),
        ("seed_from = 7", 6, "seed_from: it needs repeat: it is the seed of the first repeat"),
        ("sample = 7", 6, "sample: it needs template or dynamic_prompts"),
        ("sample_seed = 7", 6, "sample_seed: it needs sample"),
        ('template = "{a|b"', 6, "template: a { has no }"),
        ('map = ["caption"]', 6, "map: 'caption' is not OLD=NEW"),
        ('crom = "0 2 * * *"', 6, "unknown key 'crom'; there are name, cron, file, model, timezone, overlap, catch_up"),
    ],
)
def test_a_wrong_value_is_shown_with_its_line(write: Write, line: str, number: int, reason: str) -> None:
    key = line.partition(" ")[0]
    kept = [old for old in GOOD.splitlines() if not old.startswith(key)]
    kept.insert(number - 1, line)
    (problem,) = refusal(write("\n".join(kept)))
    assert problem.startswith(f"line {number}: ")
    assert reason in problem


@pytest.mark.parametrize("key", ["name", "cron", "file"])
def test_a_missing_key_is_shown_with_the_line_of_its_schedule(write: Write, key: str) -> None:
    second = "\n".join(line for line in GOOD.replace("nightly", "other").splitlines() if not line.startswith(key))
    assert refusal(write(GOOD + second)) == [f"line 7: the schedule has no {key}"]


@pytest.mark.parametrize("file", ["nowhere.jsonl", ".", "-", "f" * 5000, "prompts.jsonl/x"])
def test_a_prompts_file_may_still_come(write: Write, file: str) -> None:
    (schedule,) = right(write(GOOD.replace("prompts.jsonl", file)))
    assert "there is no file" in (schedule.problem or "")
    assert right(write(GOOD))[0].problem is None


def test_a_wrong_schedule_leaves_the_others_right(write: Write) -> None:
    wrong = '[[schedule]]\nname = "we\\u001bekly"\ncron = "never"\ntimezone = 3\n'
    path = write(GOOD + wrong + GOOD.replace("nightly", "last") + GOOD)
    first, weekly, last, again = load(path)
    assert [schedule.name for schedule in right(path)] == ["nightly", "last"]
    assert isinstance(first, Schedule)
    assert isinstance(last, Schedule)
    assert isinstance(weekly, WrongSchedule)
    assert isinstance(again, WrongSchedule)
    assert (weekly.name, weekly.cron, weekly.timezone, weekly.file) == ("we\ufffdekly", "never", "", "")
    assert [problem.line for problem in weekly.problems] == [6, 7, 8, 9]
    assert [str(problem) for problem in again.problems] == ["line 17: another schedule is named 'nightly' already"]


def test_a_wrong_schedule_without_a_name_is_called_by_its_place(write: Write) -> None:
    _, wrong = load(write(GOOD + "[[schedule]]\nname = 3\n"))
    assert wrong.name == "schedule 2"


def test_names_are_alike_also_in_other_case(write: Write) -> None:
    text = GOOD + GOOD.replace("nightly", "Nightly")
    assert refusal(write(text)) == ["line 8: another schedule is named 'Nightly' already"]


def test_everything_wrong_is_said_at_once_in_the_order_of_the_lines(write: Write) -> None:
    text = """# comment
title = "x"
[[schedule]]
note = '''
[[schedule]]
cron = "no"
'''
cron = "0 0 2 * * *"  # seconds?
file = "nope"
name = "one"

  [[ "schedule" ]]
cron = "0 2 * * *"
overlap = "no"
"""
    assert [problem.split(":")[0] for problem in refusal(write(text))] == [
        "line 2",
        "line 7",
        "line 8",
        "line 12",
        "line 12",
        "line 14",
    ]


def test_a_byte_order_mark_is_passed_over(write: Write) -> None:
    assert [schedule.name for schedule in right(write("\ufeff" + GOOD))] == ["nightly"]
    assert refusal(write("\ufeff" + GOOD.replace("0 2", "x 2")))[0].startswith("line 4: cron")


def test_lines_are_found_with_windows_line_ends_and_in_inline_tables(write: Write) -> None:
    assert refusal(write(GOOD.replace("2", "99").replace("\n", "\r\n")))[0].startswith("line 4: cron")
    inline = 'schedule = [\n  {name = "a", cron = "x", file = "prompts.jsonl"},\n]\nlast = 1\n'
    first, second = refusal(write(inline))
    assert first.startswith("line 3: cron: 'x' has 1 field;")
    assert second.startswith("line 4: unknown key 'last'")


@pytest.mark.parametrize("text", ['schedule = "nightly"', "schedule = [1]", GOOD.replace("[[", "[").replace("]]", "]")])
def test_one_pair_of_brackets_is_explained(write: Write, text: str) -> None:
    (problem,) = refusal(write(text))
    assert problem.endswith("a schedule begins with [[schedule]], in two pairs of brackets")
    assert problem.startswith("line ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b'[[schedule]]\nname = "a\n', "line 2: "),
        (b"[[schedule]]\nname = 1\nname = 2\n", "line 3: "),
        (b'[[schedule]]\nname = """a\n', "line 3: "),
        (b'[[schedule]]\nname = "\xff"\n', "line 2: not UTF-8"),
        (b"a = " + b"[" * 5000, "nested too deep"),
        (b"a = " + b"9" * 5000, "Exceeds the limit"),
    ],
)
def test_broken_toml_is_shown_with_its_line(write: Write, text: bytes, problem: str) -> None:
    (shown,) = refusal(write(text))
    assert shown.startswith(problem)
    assert "(at" not in shown


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=r"cannot be read: Is a directory"):
        load(tmp_path)


VALUES = st.one_of(
    st.text(max_size=12).map(lambda text: '"' + text.replace("\\", "").replace('"', "") + '"'),
    st.sampled_from(
        ['"nightly"', '"0 2 * * *"', '"prompts.jsonl"', "true", "3", "[]", "{}", "1979-05-27", "nan", '"UTC"']
    ),
)
KEYS = st.sampled_from(["name", "cron", "file", "model", "timezone", "overlap", "catch_up", "schedule", "x", '"a b"'])
LINES = st.one_of(
    st.sampled_from(
        ["[[schedule]]", "[schedule]", "[[schedule.x]]", "", "# [[schedule]]", '"""', "schedule = [{}, 3]"]
    ),
    st.tuples(KEYS, VALUES).map(" = ".join),
    st.text(max_size=20),
)


@settings(deadline=None)
@given(st.one_of(st.lists(LINES, max_size=12).map("\n".join), st.text(max_size=60)))
def test_any_file_is_read_or_refused(text: str) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "schedules.toml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            schedules = load(path)
        except ScheduleError as error:
            assert str(path) in str(error)  # noqa: PT017 - passing is as good
        else:
            assert len(schedules) == len(tomllib.loads(text).get("schedule", []))


FAULTS = st.sampled_from(["", 'overlap = "no"', "extra = 1", "model = 2", 'note = """\n[[schedule]]\n"""'])


@settings(deadline=None)
@given(wrong=st.lists(FAULTS, min_size=1, max_size=8), blank=st.integers(0, 3))
def test_each_fault_is_found_in_the_line_that_has_it(wrong: list[str], blank: int) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "schedules.toml"
        (path.parent / "prompts.jsonl").touch()
        tables = [
            f"{GOOD.replace('nightly', f's{number}')}{line}\n" + "\n" * blank for number, line in enumerate(wrong)
        ]
        path.write_text("".join(tables), encoding="utf-8")
        if not any(wrong):
            assert len(load(path)) == len(wrong)
            return
        lines = path.read_text(encoding="utf-8").split("\n")
        for problem in refusal(path):
            place, _, message = problem.partition(": ")
            line = lines[int(place.removeprefix("line ")) - 1]
            assert line == '"""' or line.split()[0] in message

"""Templates: what they make, in which order, and what is refused."""

from __future__ import annotations

from math import perm
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.expansion.template import TemplateError, read_template

ROW = {"name": "a {cat}", "style": "oil", "seed": 3, "go": True, "list": [1], "none": None, "Colour": "red"}


def prompts(text: str, columns: dict[str, Any] | None = None) -> list[str]:
    template = read_template(text)
    return [template.make(index, ROW if columns is None else columns)[0] for index in range(template.count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a fox", ["a fox"]),
        ("", [""]),
        ("a | b", ["a | b"]),
        ("{name}, { style }: {seed}, {go}", ["a {cat}, oil: 3, true"]),
        ("{{name}} is {{}}", ["{name} is {}"]),
        ("{red|blue} fox", ["red fox", "blue fox"]),
        ("{a|b} {c|d}", ["a c", "a d", "b c", "b d"]),
        ("{|very }big", ["big", "very big"]),
        ("{a|a|b}", ["a", "b"]),
        ("{x{a|b}|c}", ["xa", "xb", "c"]),
        ("{ {rose|white} gold|platinum}", ["rose gold", "white gold", "platinum"]),
        ("{a|{b|{c|d}}}", ["a", "b", "c", "d"]),
        ("{by {name}|alone}", ["by a {cat}", "alone"]),
        ("{ {style} }", ["oil "]),
        ("{2$$a|b|c}", ["a, b", "a, c", "b, a", "b, c", "c, a", "c, b"]),
        ("{2$$ and $$a|b}", ["a and b", "b and a"]),
        ("{1-2$$a|b}", ["a", "b", "a, b", "b, a"]),
        ("{-2$$a|b}", ["a", "b", "a, b", "b, a"]),
        ("{1-$$a|b}", ["a", "b", "a, b", "b, a"]),
        ("{9$$a|b}", ["a, b", "b, a"]),
        ("{0-1$$a|b}", ["", "a", "b"]),
        ("{2$$a|{b|c}}", ["a, b", "a, c", "b, a", "c, a"]),
        ("{1$$a}", ["a"]),
        ("5$ or {a|b}$$", ["5$ or a$$", "5$ or b$$"]),
        ("snake_case __ __ {a|b}", ["snake_case __ __ a", "snake_case __ __ b"]),
        ("16:9::2", ["16:9::2"]),
        ("日本 {猫|犬}", ["日本 猫", "日本 犬"]),
    ],
)
def test_prompts(text: str, expected: list[str]) -> None:
    assert prompts(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{a|b", r"at character 1 of the template: a \{ has no \}"),
        ("{a|b} {c|{d|e", r"at character 10 of the template: a \{ has no \}"),
        ("{name", r"a \{ has no \}"),
        ("a} b", r"a \} has no \{ before it"),
        ("{{rose|white} gold|platinum}", "a group that begins with a group has a blank"),
        ("{}", r"\{\} is empty"),
        ("{ }", r"\{\} is empty"),
        ("{0.5::a|b}", r"weights \(.*\) are not supported"),
        ("{a|2::b}", r"weights \(.*\) are not supported"),
        ("a __colour__ fox", "wildcards like __colour__ are not supported"),
        ("{__animals/*__|b}", "wildcards like __animals/"),
        ("${season}", r"variables \(\$\{…\}\) are not supported"),
        ("{~a|b}", "samplers .* are not supported"),
        ("{@a|b}", "samplers .* are not supported"),
        ("{$$a|b}", "before .* stands how many"),
        ("{two$$a|b}", "before .* stands how many"),
        ("{8$$a|b|c|d|e|f|g|h|i|j}", "a group has more than 100,000 selections"),
        ("{a" * 30 + "}" * 30, "nested deeper than 20"),
    ],
)
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        read_template(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{stile}", "the template needs 'stile', which the row does not have; is 'style' meant"),
        ("{colour}", "is 'Colour' meant"),
        ("{none}", "the template needs 'none', which the row does not have"),
        ("{list}", "'list', which is neither text nor a number"),
        ("{width}", "does not have; it has name, style, seed"),
    ],
)
def test_a_row_that_does_not_fill_it(text: str, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        prompts(text)
    with pytest.raises(TemplateError, match="it has nothing"):
        prompts(text, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a fox, {style}", [[]]),
        ("{a|b} {c|d}", [["a", "c"], ["a", "d"], ["b", "c"], ["b", "d"]]),
        ("{ {rose|white} gold|platinum}", [["rose-gold"], ["white-gold"], ["platinum"]]),
        ("{2$$a|b}", [["a-b-4a479d"], ["b-a-22dbbc"]]),
    ],
)
def test_ids_say_what_was_taken_of_each_group(text: str, expected: list[list[str]]) -> None:
    template = read_template(text)
    assert [template.make(index, ROW)[1] for index in range(template.count)] == expected


WORDS = st.text(
    st.characters(exclude_characters="{}|$_:~@.", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda word: word == word.strip())
LISTS = st.lists(WORDS, min_size=2, max_size=4, unique=True)


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="_", exclude_categories=["Cs"]), max_size=40))
def test_text_with_its_braces_doubled_comes_back(text: str) -> None:
    assert prompts(text.replace("{", "{{").replace("}", "}}")) == [text]


@settings(deadline=None)
@given(WORDS, st.text(max_size=30))
def test_a_value_comes_back_as_it_is(name: str, value: str) -> None:
    assert prompts(f"<{{{name}}}>", {name: value}) == [f"<{value}>"]


@settings(deadline=None)
@given(st.lists(LISTS, min_size=1, max_size=3), st.lists(WORDS, min_size=4, max_size=4))
def test_groups_multiply_and_each_combination_is_there_once(groups: list[list[str]], between: list[str]) -> None:
    text = between[3] + "".join(
        "{" + "|".join(group) + "}" + words for group, words in zip(groups, between, strict=False)
    )
    expected = [between[3]]
    for group, words in zip(groups, between, strict=False):
        expected = [head + word + words for head in expected for word in group]
    assert prompts(text) == expected


@settings(deadline=None)
@given(LISTS, st.integers(1, 4))
def test_so_many_of_a_group(options: list[str], number: int) -> None:
    found = prompts(f"{{{number}$$ & $${'|'.join(options)}}}")
    taken = min(number, len(options))
    assert len(found) == perm(len(options), taken)
    assert all(text.count(" & ") >= taken - 1 for text in found)


@settings(deadline=None)
@given(
    st.recursive(
        WORDS,
        lambda inner: st.lists(inner, min_size=2, max_size=3).map(lambda some: "{x " + "|".join(some) + "}"),
        max_leaves=8,
    )
)
def test_every_index_makes_a_prompt(text: str) -> None:
    template = read_template(text)
    made = [template.make(index, {}) for index in range(template.count)]
    assert all("{" not in prompt and "|" not in prompt for prompt, _ in made)


@settings(deadline=None)
@given(st.text(st.sampled_from("{}|$2-~@_:. ab"), max_size=30))
def test_anything_is_understood_or_refused(text: str) -> None:
    try:
        template = read_template(text)
    except TemplateError:
        return
    columns = dict.fromkeys(template.names, "x")
    assert isinstance(template.make(template.count - 1, columns)[0], str)

"""JSON as models give it: in fences, in prose, alone, or not at all."""

from __future__ import annotations

import pytest

from smarterrouter.profiling.checkers.json import check
from smarterrouter.profiling.checkers.specs import Json

PERSON = Json(
    schema={
        "type": "object",
        "required": ["name", "age"],
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    },
    expect={"name": "Ada", "age": 36},
)
ORDER = Json(
    expect={"items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}], "paid": True},
    unordered=["items"],
)
LIST = Json(expect=["red", "green"])
BARE = Json(expect={"a": 1}, bare=True)

PRICE = Json(expect={"coffee": 2.9, "open": True})
STRICT = Json(
    schema={"properties": {"coffee": {"type": "number"}, "open": {"type": "boolean"}}},
    expect={"coffee": 2.9, "open": True},
)

RIGHT = [
    (PERSON, '{"name": "Ada", "age": 36}'),
    (PERSON, '{"age": 36, "name": "ADA "}'),
    (PERSON, '{"name": "Ada", "age": 36, "city": "London"}'),
    (PERSON, '```json\n{\n  "name": "Ada",\n  "age": 36\n}\n```'),
    (PERSON, '```\n{"name": "Ada", "age": 36}\n```'),
    (PERSON, '```JSON\n{"name": "Ada", "age": 36}\n```\n\nLet me know if that helps!'),
    (PERSON, 'Sure! Here you go:\n\n{"name": "Ada", "age": 36}\n\nIt has {name} and [age].'),
    (PERSON, 'The record is `{"name": "Ada", "age": 36}`.'),
    (PERSON, '{"name": "Ada", "age": 36'.replace("36", "36.0") + "}"),
    (PERSON, 'As an example of the form: {"x": 1}\n```json\n{"name": "Ada", "age": 36}\n```'),
    (PERSON, 'The empty list [] is left out: {"name": "Ada", "age": 36}'),
    (PERSON, '```json\n{"name": "Ada", "age": 36}'),
    (ORDER, '{"paid": true, "items": [{"sku": "B", "n": 2}, {"sku": "a", "n": 1, "x": 0}]}'),
    (LIST, '["Red", "green"]'),
    (LIST, 'They are ["red", "green"], in this order.'),
    (BARE, '{"a": 1}'),
    (BARE, '\n {"a": 1.0} \n'),
    (BARE, '```json\n{"a": 1}\n```'),
    (Json(expect="yes"), '"yes"'),
    (Json(expect=3), "3"),
    (Json(expect={"tags": ["a", "b"]}, unordered=["tags"]), '{"tags": ["b", "a"]}'),
    (Json(expect=[1, 2], bare=True), "```json\n[1, 2]\n```"),
    (PRICE, '{"coffee": "2.90", "open": "true"}'),
    (PRICE, '```json\n{"coffee": " 2.9 ", "open": "True"}\n```'),
    (PRICE, '{"coffee": 2.90, "open": true}'),
    (Json(expect=[-3, 0, False]), '["-3", "0", "false"]'),
    (Json(), "[]"),
    (Json(expect={"a": 10**400}), '{"a": 1' + "0" * 400 + "}"),
]


@pytest.mark.parametrize(("spec", "answer"), RIGHT)
def test_json_is_found_wherever_it_stands(spec: Json, answer: str) -> None:
    verdict = check(spec, answer)
    assert verdict.score == 1.0, verdict.why


WRONG = [
    (PERSON, "name: Ada\nage: 36"),
    (PERSON, '{"name": "Ada", "age": "36"}'),
    (PERSON, '{"name": "Ada"}'),
    (PERSON, '{"name": "Eve", "age": 36}'),
    (PERSON, '{"name": "Ada", "age": 36,}'),
    (PERSON, "{'name': 'Ada', 'age': 36}"),
    (PERSON, '{"name": "Ada", "age": 36'),
    (PERSON, '{"name": "Ada", // her name\n"age": 36}'),
    (PERSON, '[{"name": "Ada", "age": 36}]'),
    (PERSON, '```json\n{"name": "Eve", "age": 1}\n```\nrather {"name": "Ada", "age": 36}'),
    (ORDER, '{"paid": true, "items": [{"sku": "a", "n": 1}]}'),
    (ORDER, '{"paid": 1, "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]}'),
    (ORDER, '{"paid": true, "items": [{"sku": "a", "n": 1}, {"sku": "a", "n": 1}]}'),
    (LIST, '["green", "red"]'),
    (LIST, "red, green"),
    (BARE, 'Here: {"a": 1}'),
    (BARE, '{"a": 1} {"a": 1}'),
    (BARE, '```json\n{"a": 1}\n```\nThat is all.'),
    (Json(expect={"tags": ["a", "b"]}, unordered=["tags"]), '{"tags": ["a"]}'),
    (Json(expect=[1, 2], bare=True), "Here you are: [1, 2]"),
    (PRICE, '{"coffee": "2.80", "open": "true"}'),
    (PRICE, '{"coffee": "2.90", "open": "false"}'),
    (PRICE, '{"coffee": "2.90", "open": "yes"}'),
    (PRICE, '{"coffee": "2.90", "open": "1"}'),
    (PRICE, '{"coffee": "2.90", "open": 1}'),
    (PRICE, '{"coffee": "about 2.90", "open": true}'),
    (PRICE, '{"coffee": "2.90 or 3.10", "open": true}'),
    (PRICE, '{"coffee": "", "open": true}'),
    (PRICE, '{"coffee": ["2.90"], "open": true}'),
    (STRICT, '{"coffee": "2.90", "open": true}'),
    (STRICT, '{"coffee": 2.9, "open": "true"}'),
    (Json(expect={"a": 1}), '{"a": "true"}'),
    (Json(expect={"a": "36"}), '{"a": 36}'),
    (Json(expect={"a": None}), '{"a": "null"}'),
    (Json(expect={"a": 1}), '{"a": "' + "9" * 5000 + '"}'),
    (Json(expect={"a": 1}), '{"a": NaN}'),
    (Json(expect={"a": 1}), '{"a": {"a": 1}}'),
    (Json(expect={"a": 0}), '{"a": false}'),
    (Json(expect={"a": 1}), "[" * 100_000),
    (Json(expect={"a": 1}), '{"a":' * 100_000),
    (Json(expect={"a": 1}), '{"a": ' + "9" * 5000 + "}"),
]


@pytest.mark.parametrize(("spec", "answer"), WRONG, ids=lambda value: str(value)[:40])
def test_other_json_or_none_fails(spec: Json, answer: str) -> None:
    verdict = check(spec, answer)
    assert verdict.score == 0.0, verdict.why


@pytest.mark.parametrize(
    "schema",
    [{"type": "no such type"}, {"$ref": "https://localhost/schema.json"}, {"type": 3}],
)
def test_a_schema_that_cannot_be_used_leaves_the_answer_unmeasured(
    schema: dict[str, object],
) -> None:
    verdict = check(Json(schema=schema), "{}")
    assert verdict.score is None
    assert "schema" in verdict.why


def test_the_reason_says_what_is_missing() -> None:
    assert check(PERSON, '{"name": "Eve", "age": 36}').why == 'name is "Eve", not "Ada"'
    assert check(LIST, '["red"]').why == "it has 1 entries, not 2"


@pytest.mark.parametrize(
    "answer",
    [
        'My guess was {"a": 2, "b": 3, "c": 9}, but a is 0:\n\n{"a": 0, "b": 3}',
        'Left are\n\n- `{"a": 5, "b": 3}`\n- `{"a": 0, "b": 3}`\n\nso it prints:\n\n`{"a": 0}`',
        'Not {"a": 4, "b": 3}.\n**{"a": 0}**',
    ],
)
def test_in_prose_the_last_that_stands_alone_counts(answer: str) -> None:
    assert check(Json(expect={"a": 0}), answer).score == 1.0
    wrong = answer.replace('"a": 0', '"a": 7').replace('"a": 5', '"a": 0')
    assert check(Json(expect={"a": 0}), wrong).score == 0.0


def test_what_stands_within_a_sentence_counts_where_nothing_stands_alone() -> None:
    assert check(Json(expect={"a": 0}), 'It is {"a": 0, "b": 1}, not {"a": 1}.').score == 1.0

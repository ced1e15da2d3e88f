"""Typed values on Juju's wire, and every example of every interface there and back."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
import pytest

from katonic import Databag, Plan, Secret, masking, wire

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.parent.name for path in ROOT.glob("interfaces/*/__init__.py"))
EXAMPLES = [
    pytest.param(example, id=f"{name}.{type(example).__name__}")
    for name in NAMES
    for example in importlib.import_module(f"interfaces.{name}").EXAMPLES
]


class Login(Secret):
    username: str
    password: Annotated[str, msgspec.Meta(max_length=20)] = ""
    role: Literal["reader", "writer"] | None = None


class Item(msgspec.Struct, frozen=True, rename="kebab"):
    item_name: str
    login: Login


class Raw(Databag):
    text: str
    item_count: int = 0
    names: tuple[str, ...] = ()
    choice: Literal["here", "there"] | None = None
    level: Annotated[int, msgspec.Meta(ge=1, description="1 or more")] | None = None
    one_or_more: str | tuple[str, ...] | None = None
    secret_user: Login | None = None
    items: tuple[Item, ...] = ()
    spelt: str | None = msgspec.field(default=None, name="spelt_otherwise")


class Json(Databag):
    wire: ClassVar[Literal["raw", "json"]] = "json"

    text: str
    secret_user: Login | None = None


class Safe:
    """Keeps what is sealed, as Juju does."""

    def __init__(self) -> None:
        self.contents: dict[str, dict[str, str]] = {}
        self.places: dict[str, str] = {}

    def seal(self, place: str, content: dict[str, str]) -> str:
        uri = f"secret:{len(self.contents):020}"
        self.contents[uri] = content
        self.places[place] = uri
        return uri

    def open(self, uri: str) -> Mapping[str, str]:
        return self.contents[uri]


@pytest.fixture
def safe() -> Safe:
    return Safe()


def read(cls: type[Databag], raw: Mapping[str, str], content: dict[str, str] | None = None):
    return wire.decode(cls, raw, lambda uri: content or {})


def test_there_are_examples_of_both_sides_of_every_interface():
    for name in NAMES:
        examples = importlib.import_module(f"interfaces.{name}").EXAMPLES
        assert {"Requirer", "Provider"} <= {type(it).__name__ for it in examples}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_comes_back_as_it_went(example, safe):
    bag = wire.encode(example, safe.seal)
    assert all(isinstance(value, str) and value for value in bag.values())
    assert wire.decode(type(example), bag, safe.open) == example


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_secret_of_an_example_is_in_the_open(example, safe):
    bag = wire.encode(example, safe.seal)
    hidden = {value for content in safe.contents.values() for value in content.values()}
    assert not [value for value in hidden if value in repr(bag)]
    assert set(safe.places) == {key for key in bag if key in example.secrets()}


def test_raw_text_stands_as_it_is_and_all_else_as_json(safe):
    bag = Raw(text='say "so"', item_count=3, names=("a", "b"), choice="here")
    assert wire.encode(bag, safe.seal) == {
        "text": 'say "so"',
        "item-count": "3",
        "names": '["a", "b"]',
        "choice": "here",
        "items": "[]",
    }


def test_on_the_json_wire_text_and_uris_are_quoted(safe):
    bag = Json(text='say "so"', secret_user=Login(username="u"))
    encoded = wire.encode(bag, safe.seal)
    (uri,) = safe.contents
    assert encoded == {"text": '"say \\"so\\""', "secret-user": f'"{uri}"'}
    assert wire.decode(Json, encoded, safe.open) == bag


@pytest.mark.parametrize("text", ["7", "true", "null", "[1]", '"quoted"', "a, b"])
def test_raw_text_that_looks_like_json_stays_text(text, safe):
    bag = Raw(text=text)
    assert wire.decode(Raw, wire.encode(bag, safe.seal), safe.open) == bag


@pytest.mark.parametrize("value", ["https://one", ("https://one", "https://two")])
def test_text_or_a_list_comes_back_as_it_went(value, safe):
    bag = Raw(text="t", one_or_more=value)
    assert wire.decode(Raw, wire.encode(bag, safe.seal), safe.open) == bag


def test_a_secret_leaves_out_what_is_none(safe):
    wire.encode(Raw(text="t", secret_user=Login(username="u", password="p")), safe.seal)
    assert list(safe.contents.values()) == [{"username": "u", "password": "p"}]


def test_a_secret_is_sealed_however_deep_it_stands(safe):
    items = [Item(name, Login(username=name, password=f"{name}-pw")) for name in ("a", "b")]
    bag = wire.encode(Raw(text="t", items=tuple(items)), safe.seal)
    assert safe.contents[safe.places["items.1.login"]]["password"] == "b-pw"
    assert "-pw" not in repr(bag)
    assert json.loads(bag["items"])[1] == {
        "item-name": "b",
        "login": safe.places["items.1.login"],
    }
    for place, uri in safe.places.items():
        assert wire.secret_at(bag, place) == uri
    assert wire.secrets_in(bag) == set(safe.contents)


def test_a_secret_is_masked_however_deep_it_stands():
    shown = masking.show(
        Plan(asks={"far": Raw(text="t", items=(Item("a", Login(username="hidden")),))})
    )
    assert "hidden" not in repr(shown)
    assert "username" in repr(shown)


@pytest.mark.parametrize("place", ["secret-user", "items.2.login", "items.0.other", "text.0.x"])
def test_where_there_is_no_secret_there_is_no_uri(place):
    assert wire.secret_at({"text": "t", "items": '[{"login": "secret:a"}]'}, place) == ""


def test_while_a_required_key_is_missing_there_is_no_data():
    assert read(Raw, {"item-count": "3"}) is None
    assert read(Raw, {}) is None


def test_a_key_that_is_spelt_otherwise_is_found(safe):
    bag = Raw(text="t", spelt="yes")
    assert wire.encode(bag, safe.seal)["spelt_otherwise"] == "yes"
    assert read(Raw, {"text": "t", "spelt_otherwise": "yes"}) == bag


def test_a_key_that_the_interface_does_not_know_is_let_be():
    raw = {"text": "t", "ingress-address": "10.1.0.7", "data": '{"a": 1}'}
    assert read(Raw, raw) == Raw(text="t")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("item-count", "many", "item-count=many: expected `int`, got `str`"),
        ("names", '["a", 5]', "names=['a', 5]: expected `str`, got `int`"),
        ("choice", "where", "choice=where: invalid enum value 'where'; allowed: here, there"),
        ("level", "0", "level=0: expected `int` >= 1; allowed: 1 or more"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(key, value, message):
    with pytest.raises(wire.WrongValueError) as caught:
        read(Raw, {"text": "t", key: value})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "secret-user: object missing required field `username`"),
        (
            {"username": "u", "password": "hidden" * 9},
            "secret-user: password expected `str` of length <= 20",
        ),
        ({"username": "u", "role": "hidden"}, "secret-user: role invalid enum"),
    ],
)
def test_a_wrong_secret_is_named_and_its_content_is_not(content, message):
    with pytest.raises(wire.WrongValueError) as caught:
        read(Raw, {"text": "t", "secret-user": "secret:a"}, content)
    assert str(caught.value).startswith(message)
    assert "hidden" not in str(caught.value)

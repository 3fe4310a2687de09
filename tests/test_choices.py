"""Registries, entries of the user's own, and settings."""

import dataclasses
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from fedjax_private import choices
from fedjax_private.choices import Choice, Registry, Settings, chosen, setting


@dataclasses.dataclass(frozen=True)
class Size(Settings):
    """Of a shape."""

    side: float = setting(1.0, "length of a side", choices.positive)
    corners: int | None = setting(None, "how many", choices.between(3, 8))


@dataclasses.dataclass(frozen=True)
class Shape:
    name: str
    summary: str = ""
    settings: type[Settings] = Settings
    ignores: tuple[str, ...] = ()


CIRCLE = Shape("circle", "round", Size, ignores=("corners",))
SQUARE = Shape("square", "four corners", Size)
POINT = Shape("point")

HERE = "shapes_of_a_user"


def adapted(name, attribute):
    if not callable(attribute):
        raise ValueError(f"shape={name} must be a Shape or a function.")
    return Shape(name, attribute.__doc__ or "")


def drawn():
    """By hand."""


@pytest.fixture
def shapes(monkeypatch):
    """A registry of two shapes; a module holds more."""
    module = types.ModuleType(HERE)
    module.__dict__.update(
        CIRCLE=CIRCLE, SQUARE=SQUARE, POINT=POINT, drawn=drawn, number=3, several=[1]
    )
    monkeypatch.setitem(sys.modules, HERE, module)
    built_in = {"circle": f"{HERE}:CIRCLE", "square": f"{HERE}:SQUARE"}
    return Registry("shape", Shape, built_in, adapted)


class TestFind:
    def test_built_in_entries_by_name_and_in_order(self, shapes):
        assert shapes.find("circle") is CIRCLE
        assert shapes.names == tuple(shapes) == ("circle", "square")
        assert shapes.entries() == [CIRCLE, SQUARE]

    def test_a_user_s_entry_carries_the_path_by_which_it_is_found_again(self, shapes):
        entry = shapes.find(f"{HERE}:POINT")
        assert entry == dataclasses.replace(POINT, name=f"{HERE}:POINT")
        assert shapes.find(entry.name) is entry
        assert shapes.find(f"{HERE}:CIRCLE").settings is Size

    def test_other_attributes_are_adapted(self, shapes):
        entry = shapes.find(f"{HERE}:drawn")
        assert entry == Shape(f"{HERE}:drawn", "By hand.")
        assert shapes.find(entry.name) is entry
        for name in ("number", "several"):  # the latter is not hashable
            with pytest.raises(ValueError, match="must be a Shape or a function"):
                shapes.find(f"{HERE}:{name}")

    def test_entries_only_where_nothing_is_adapted(self, shapes):
        plain = dataclasses.replace(shapes, adapt=None)
        assert plain.find(f"{HERE}:POINT").name == f"{HERE}:POINT"
        with pytest.raises(ValueError, match=f"shape={HERE}:drawn: drawn is no Shape"):
            plain.find(f"{HERE}:drawn")

    @pytest.mark.parametrize("name", ["magic", "", ":", "a:", ":a"])
    def test_unknown_names_list_what_can_be_chosen(self, name, shapes):
        sentence = f"shape {name!r} is unknown: choose one of circle, square, or your"
        with pytest.raises(ValueError, match=sentence):
            shapes.find(name)

    @pytest.mark.parametrize(
        ("name", "named"),
        [
            (f"{HERE}:nothing", "no attribute 'nothing'"),
            ("no_such_module:f", "No module named 'no_such_module'"),
            ("no_such.py:f", "leave out .py and name no_such:f"),
            ("own/shapes.py:f", "leave out .py and name own.shapes:f"),
            (f"{HERE}.inner:f", "is not a package"),
            ("..relative:f", "relative"),
        ],
    )
    def test_paths_that_lead_nowhere_say_why(self, name, named, shapes):
        with pytest.raises(ValueError, match=f"shape={name}.*{named}"):
            shapes.find(name)

    def test_names_of_a_form_stand_for_an_entry_under_the_whole_name(self, shapes):
        def polygon(name):
            corners = name.removeprefix("polygon:")
            return Shape(name) if corners.isdigit() else None

        shapes = dataclasses.replace(shapes, matched=polygon)
        assert shapes.find("polygon:7") == Shape("polygon:7")
        assert shapes.matching("polygon:7") == shapes.choose("polygon:7").entry
        assert shapes.matching("circle") is None is shapes.matching(f"{HERE}:POINT")
        assert shapes.find(f"{HERE}:POINT").name == f"{HERE}:POINT"
        with pytest.raises(ValueError, match="shape 'oval' is unknown"):
            shapes.find("oval")


class TestChoose:
    def test_names_and_entries_become_choices(self, shapes):
        choice = shapes.choose("circle")
        assert choice == Choice(CIRCLE, Size()) == shapes.choose(CIRCLE)
        assert (choice.name, choice.entry) == ("circle", CIRCLE)
        assert hash(choice) == hash(shapes.choose(CIRCLE))
        assert shapes.choose(choice) is choice
        assert shapes.choose(POINT).described() == {"name": "point"}

    def test_settings_are_given_by_name(self, shapes):
        choice = shapes.choose("square", {"side": 2.0, "corners": 4})
        assert choice.described() == {"name": "square", "side": 2.0, "corners": 4}
        with pytest.raises(ValueError, match=r"side must .* got -1"):
            shapes.choose("square", {"side": -1.0})

    def test_settings_given_with_a_choice_replace_its_own(self, shapes):
        choice = shapes.choose("square", {"side": 2.0, "corners": 4})
        assert shapes.choose(choice, {"corners": 5}) == shapes.choose(
            "square", {"side": 2.0, "corners": 5}
        )
        with pytest.raises(ValueError, match="corners is no setting of shape circle"):
            shapes.choose(shapes.choose("circle"), {"corners": 4})

    @pytest.mark.parametrize(
        ("entry", "sentence"),
        [
            ("square", "colour is no setting of shape square: it has side, corners."),
            (POINT, "colour is no setting of shape point, which has none."),
        ],
    )
    def test_settings_of_others_are_refused(self, entry, sentence, shapes):
        with pytest.raises(ValueError, match=sentence):
            shapes.choose(entry, {"colour": "red"})

    def test_a_setting_that_an_entry_ignores_is_not_its_own(self, shapes):
        assert choices.settings_of(CIRCLE) == ("side",)
        assert choices.settings_of(SQUARE) == ("side", "corners")
        with pytest.raises(ValueError, match="corners is no setting of shape circle"):
            shapes.choose("circle", {"corners": 4})

    def test_an_object_is_adapted_as_module_attribute_is(self, shapes):
        choice = shapes.choose(drawn)
        assert (choice.name, choice.entry.summary) == ("drawn", "By hand.")

    @pytest.mark.parametrize("which", [3, None, Settings(), "choice"])
    def test_anything_else_is_refused(self, which, shapes):
        words = "must be a Shape or a function"
        if which == "choice":  # of another registry
            which, words = Choice(Settings, Settings()), "must be a name or an entry"
        with pytest.raises(ValueError, match=words):
            shapes.choose(which)
        entries_only = dataclasses.replace(shapes, adapt=None)
        with pytest.raises(ValueError, match="shape must be a name or an entry"):
            entries_only.choose(which)

    def test_settings_are_no_single_value(self, shapes):
        with pytest.raises(ValueError, match=r"values must be settings by name.*got 3"):
            shapes.choose("circle", 3)


class TestSettings:
    @pytest.mark.parametrize(
        ("check", "good", "bad"),
        [
            (choices.at_least(2), (2, 3), (1, math.nan)),
            (choices.between(2, 4), (2, 4.0), (1.9, 5, math.nan)),
            (choices.positive, (1e-9, 1), (0, -1, math.inf, math.nan)),
            (choices.not_negative, (0, 1), (-1e-9, math.inf, math.nan)),
            (choices.below_one, (0, 0.99), (-0.1, 1, math.nan)),
            (choices.probability, (1e-9, 1), (0, 1.1, math.nan)),
            (choices.one_of("a", "b"), ("a", "b"), ("c", "", "ab")),
        ],
    )
    def test_checks_say_what_is_wrong(self, check, good, bad):
        assert all(check(value) is None for value in good)
        assert all(check(value).startswith("must ") for value in bad)

    def test_every_field_is_checked_and_the_sentence_begins_with_its_name(self):
        with pytest.raises(ValueError) as raised:
            Size(corners=9)
        assert str(raised.value) == "corners must lie between 3 and 8, got 9."
        assert Size(corners=None).corners is None
        with pytest.raises(ValueError, match="side must"):
            dataclasses.replace(Size(), side=0.0)

    def test_checks_of_a_subclass_come_after_those_of_its_fields(self):
        @dataclasses.dataclass(frozen=True)
        class Even(Size):
            """Of an even shape."""

            def __post_init__(self):
                super().__post_init__()
                if self.corners is not None and self.corners % 2:
                    raise ValueError("corners must be even.")

        with pytest.raises(ValueError, match="between"):
            Even(corners=9)
        with pytest.raises(ValueError, match="even"):
            Even(corners=5)

    def test_fields_of_choices_hold_choices(self, shapes):
        @dataclasses.dataclass(frozen=True)
        class Drawing(Settings):
            """What to draw."""

            shape: str = chosen(shapes, "circle", "what is drawn")
            others: tuple[str, ...] = chosen(shapes, ("circle", "square"), "beside it")
            frame: str | None = chosen(shapes, None, "around it")

        drawing = Drawing(shape=SQUARE)
        assert drawing.shape == shapes.choose("square")
        assert [each.name for each in drawing.others] == ["circle", "square"]
        assert drawing.frame is None
        given = Drawing(shape=shapes.choose("square", {"side": 3.0}))
        assert given.shape.settings.side == 3.0
        assert dataclasses.replace(given, frame="circle").shape is given.shape
        with pytest.raises(ValueError, match="shape 'magic' is unknown"):
            Drawing(others=("circle", "magic"))

    def test_the_kind_of_a_field_that_may_be_none(self):
        kinds = choices.kinds(Size)
        assert kinds == {"side": float, "corners": int}


def test_every_built_in_entry_is_found_under_its_own_name():
    from fedjax_private.aggregation import SCHEMES
    from fedjax_private.algorithms import ALGORITHMS, SERVER_OPTIMIZERS
    from fedjax_private.clients.entries import CLIENTS
    from fedjax_private.datasets import PARTITIONS, SOURCES
    from fedjax_private.models import MODELS
    from fedjax_private.privacy.mechanisms import MECHANISMS

    kinds = set()
    for registry in (
        ALGORITHMS,
        CLIENTS,
        MECHANISMS,
        MODELS,
        PARTITIONS,
        SCHEMES,
        SERVER_OPTIMIZERS,
        SOURCES,
    ):
        kinds.add(registry.kind)
        for name, entry in zip(registry, registry.entries(), strict=True):
            assert isinstance(entry, registry.entry)
            assert entry.name == name and entry.summary
            assert registry.choose(name).settings == entry.settings()
            for field in dataclasses.fields(entry.settings):
                assert field.metadata["help"], f"{name}: {field.name}"
    assert len(kinds) == 8


@dataclasses.dataclass(frozen=True)
class Kinds(Settings):
    """A field of each kind."""

    count: int = choices.setting(1, "")
    rate: float | None = choices.setting(None, "", choices.positive)
    name: str = choices.setting("a", "")
    on: bool = choices.setting(False, "")
    either: str | int | None = choices.setting(None, "")
    names: list[str] = choices.setting(("a", "b"), "")


class TestKinds:
    def test_numbers_of_all_libraries_are_numbers(self):
        made = Kinds(count=np.int64(2), rate=3, name="b", on=True, either=3)
        assert (made.count, made.rate) == (2, 3)
        assert Kinds(rate=np.float32(0.5)).rate == 0.5

    def test_a_path_is_text(self):
        assert Kinds(name=Path("a") / "b").name == "a/b"

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"count": "2"}, "count must be a whole number, got '2'."),
            ({"count": 2.5}, "count must be a whole number, got 2.5."),
            ({"count": True}, "count must be a whole number, got True."),
            ({"rate": "0.1"}, "rate must be a number, got '0.1'."),
            ({"rate": [0.1, 0.2]}, "rate must be a number, got list."),
            ({"name": 3}, "name must be text, got 3."),
            ({"on": "yes"}, "on must be True or False, got 'yes'."),
        ],
    )
    def test_other_values_are_named(self, values, sentence):
        with pytest.raises(ValueError) as caught:
            Kinds(**values)
        assert str(caught.value) == sentence

    def test_what_is_no_number_is_no_value_of_a_check(self):
        with pytest.raises(ValueError, match="share must be a number, got 'half'"):
            choices.check(types.SimpleNamespace(share="half"), share=choices.positive)

    def test_classes_and_signatures_of_arguments(self):
        choices.check_kind("size", 3, int, "a number")
        with pytest.raises(ValueError, match="size must be a number, got Size"):
            choices.check_kind("size", Size(), int, "a number")
        form = "a function (loss) -> trainer"
        choices.check_call("make", drawn, 0, "nothing")
        choices.check_call("make", max, 3, "whatever")
        choices.check_call("make", lambda loss, rate=1: loss, 1, form)
        for wrong, words in (
            (drawn, r"make must be a function \(loss\).*got drawn: too many"),
            (lambda: 3, "got <lambda>: too many positional arguments"),
            (lambda a, b: 3, "got <lambda>: missing a required argument: 'b'"),
            ("sgd", "make must be a function.*got 'sgd'"),
        ):
            with pytest.raises(ValueError, match=words):
                choices.check_call("make", wrong, 1, form)


@dataclasses.dataclass(frozen=True)
class Paper(Settings):
    """Of a printer."""

    shape: str = setting("sheet", "how it comes", choices.one_of("sheet", "roll"))
    length: int = setting(3, "metres of a roll", needs=("shape", "roll"))


def test_a_setting_without_what_it_needs_has_no_effect():
    assert choices.without_effect(Paper()) == {
        "length": "length has no effect: it needs shape=roll; give that, or leave it "
        "out."
    }
    assert choices.without_effect(Paper(shape="roll")) == {}

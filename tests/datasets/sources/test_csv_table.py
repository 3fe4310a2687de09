"""Tables in CSV files: what is read, and what is refused in one sentence."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fedjax_private.datasets import SOURCES, DatasetError, load, partition

WARDS = """\
id,age,sex,outcome,hospital
1,50,f,well,Bern
2,100, m ,ill,Basel
3,0,f,ill,Bern
4,25,m,well,Zug
5,75,f,well,Basel
"""
FLAGS = {
    "label": "outcome",
    "client_column": "hospital",
    "ignore": "id",
    "ranges": "age=0:100",
    "categories": "sex=f|m",
}


@pytest.fixture
def write(tmp_path):
    def write(text=WARDS, name="wards.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


@pytest.fixture
def read(write):
    def read(text=WARDS, *, encoding="utf-8", **changes):
        path = write(text, encoding=encoding)
        given = {**FLAGS, **changes}
        return load(f"csv:{path}", **{k: v for k, v in given.items() if v is not None})

    return read


def together(dataset):
    """Inputs, class and client names of all records, by their age."""
    rows = []
    for examples in (dataset.train, dataset.test):
        for inputs, label, client in zip(
            examples.inputs, examples.labels, examples.clients, strict=True
        ):
            names = dataset.class_names[label], dataset.client_names[client]
            rows.append((*map(float, inputs), *names))
    return sorted(rows)


def test_columns_become_inputs_classes_and_clients(read, write):
    dataset = read()
    assert dataset.name == f"csv:{write()}"
    assert dataset.train.inputs.dtype == np.float32
    assert dataset.class_names == ("ill", "well")
    assert (len(dataset.train), len(dataset.test)) == (4, 1)
    assert together(dataset) == [
        (-1.0, 1.0, 0.0, "ill", "Bern"),
        (-0.5, 0.0, 1.0, "well", "Zug"),
        (0.0, 1.0, 0.0, "well", "Bern"),
        (0.5, 1.0, 0.0, "well", "Basel"),
        (1.0, 0.0, 1.0, "ill", "Basel"),
    ]
    assert (dataset.normalization.offset, dataset.normalization.scale) == (0, 1)
    parts = partition(
        dataset.train.labels, None, "natural", 0, groups=dataset.train.clients
    )
    assert sum(map(len, parts)) == 4


def test_settings_may_be_mappings_in_python(read):
    plain = read()
    given = read(ranges={"age": (0, 100)}, categories={"sex": ("f", "m")})
    np.testing.assert_array_equal(given.train.inputs, plain.train.inputs)
    as_text = SOURCES.choose("csv:x", {"ranges": {"age": (0, 1e6)}})
    assert as_text.settings.ranges == ("age=0:1000000.0",)
    assert hash(as_text) == hash(SOURCES.choose("csv:x", {"ranges": "age=0:1000000.0"}))


def test_other_forms_of_the_same_table(read):
    plain = together(read())
    assert together(read("\ufeff" + WARDS)) == plain
    assert together(read(WARDS.replace("\n", "\r\n"))) == plain
    assert together(read(WARDS.replace("\n", "\n\n"))) == plain
    assert together(read(WARDS.replace(",", ";"), delimiter=";")) == plain
    assert together(read(WARDS.replace(",", "\t"), delimiter="tab")) == plain
    quoted = WARDS.replace("Bern", '"Bern, ""Insel""\nward"')
    assert 'Bern, "Insel"\nward' in {row[-1] for row in together(read(quoted))}


def test_a_star_stands_for_the_columns_that_are_not_named(read):
    assert together(read(ranges="*=0:100")) == together(read())
    as_they_are = read(ranges="*=raw", categories="sex=m|f")
    assert together(as_they_are)[1][:3] == (25.0, 1.0, 0.0)
    assert together(read(ranges={"age": "raw"}))[-1][0] == 100.0


def test_values_beyond_their_range_are_clipped_to_it(read):
    # Ages 0, 25, 50, 75, 100.
    ages = [row[0] for row in together(read(ranges="age=25:75"))]
    assert ages == [-1.0, -1.0, 0.0, 1.0, 1.0]
    (far,) = {row[0] for row in together(read(ranges="age=-1e300:-1e299"))}
    assert far == 1.0


def test_a_star_takes_the_categories_that_occur(read, write):
    assert together(read(categories="sex=*")) == together(read())
    assert read().looked_up == ()
    (sentence,) = read(categories="sex=*").looked_up
    assert sentence.startswith("categories=sex=* takes the categories of the column fr")
    more = write(WARDS.replace(",f,", ",x,"), name="more.csv")
    three = read(categories="sex=*", test_file=more)
    assert three.train.inputs.shape == (5, 4)
    assert three.test.inputs[:, 1:].tolist() == [
        [0, 0, 1],
        [0, 1, 0],
        [0, 0, 1],
        [0, 1, 0],
        [0, 0, 1],
    ]


def test_an_empty_field_may_be_a_category(read):
    assert read(WARDS.replace(",f,", ",,"), categories="sex=|m").train.inputs.shape == (
        4,
        3,
    )


def test_a_file_of_the_test_set(read, write):
    header, *lines = WARDS.splitlines()
    order = [3, 2, 0, 1, 4]  # another order of columns, found by name
    rows = [[line.split(",")[i] for i in order] for line in (header, *lines[:2])]
    path = write("\n".join(map(",".join, rows)), name="test.csv")
    dataset = read(test_file=path)
    assert (len(dataset.train), len(dataset.test)) == (5, 2)
    assert dataset.test.inputs.tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    assert [dataset.class_names[i] for i in dataset.test.labels] == ["well", "ill"]
    wider = write("bmi," + header + "\n1," + lines[0], name="wider.csv")
    with pytest.raises(DatasetError, match=r"differ in the columns bmi: add them"):
        read(test_file=wider, ranges="*=0:100")
    same = write()
    link = same.with_name("link.csv")
    link.symlink_to(same)
    for name in (same, link, same.parent / "." / same.name):
        with pytest.raises(DatasetError, match=r"is the file of the training records"):
            read(test_file=name)


def test_a_quote_after_a_space_is_a_quote(read):
    spaced = WARDS.replace(",ill", ', "ill"').replace(",Zug", ',  "Zug, east"')
    dataset = read(spaced)
    assert dataset.class_names == ("ill", "well")
    assert dataset.client_names == ("Basel", "Bern", "Zug, east")
    tabs = spaced.replace(", east", "").replace(",", "\t")
    assert read(tabs, delimiter="tab").class_names == ("ill", "well")
    with_gap = WARDS.replace(" m ", "m").replace(",", " ").replace("3 0 f", "3 0 ")
    assert len(read(with_gap, delimiter=" ", categories="sex=|f|m").train) == 4


def test_the_draw_of_the_test_set_is_by_class_and_fixed(read):
    lines = [f"{i},{i % 100},f,{'ill' if i % 4 else 'well'},Bern" for i in range(80)]
    text = "\n".join([WARDS.splitlines()[0], *lines])
    first = read(text, test_fraction=0.25)
    assert np.bincount(first.test.labels).tolist() == [15, 5]
    again, other = (read(text, test_fraction=0.25, split_seed=s) for s in (0, 1))
    np.testing.assert_array_equal(first.test.inputs, again.test.inputs)
    assert not np.array_equal(first.test.inputs, other.test.inputs)
    assert len(read(text).test) == 16  # a fifth


def test_classes_and_clients_that_are_numbers_are_sorted_by_size(read):
    lines = [f"{i},1,f,{i % 3 * 5},{(10, 9, 2)[i % 3]}" for i in range(30)]
    dataset = read("\n".join([WARDS.splitlines()[0], *lines]))
    assert dataset.class_names == ("0", "5", "10")
    assert dataset.client_names == ("2", "9", "10")


def test_whole_numbers_with_a_point_are_classes(read):
    names = read(weights("3.0"), test_fraction=0.4, **WEIGHTS).class_names
    assert names == ("1", "2", "3.0")


def test_a_client_of_one_record_may_be_in_the_test_set_alone(read):
    lines = [f"{i},{i},f,{'ab'[i % 2]},h{i}" for i in range(10)]
    dataset = read("\n".join([WARDS.splitlines()[0], *lines]))
    assert len(np.unique(dataset.train.clients)) == 8 == dataset.train.clients.max() + 1
    assert sorted(dataset.test.clients) == [8, 9]


def line(number, text):
    """The table with another line; the header is line 1."""
    lines = WARDS.splitlines()
    lines[number - 1] = text
    return "\n".join(lines)


def weights(first):
    """The table with a last column of numbers, whole ones but for the first."""
    header, *lines = WARDS.splitlines()
    ends = [first, "1", "2", "1", "2"]
    rows = [f"{row},{end}" for row, end in zip(lines, ends, strict=True)]
    return "\n".join([f"{header},weight", *rows])


WEIGHTS = {"label": "weight", "ignore": "id,outcome"}
HEADER = "id,age,sex,outcome,hospital"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": ""}, "is empty: the first line must name the columns"),
        ({"text": "\n\n"}, "is empty"),
        ({"text": line(1, "1,2,3,4,5")}, "begins with numbers: the first line must"),
        (
            {"text": line(1, "id,age,age,outcome,hospital")},
            "column 3 is a second 'age'",
        ),
        ({"text": line(1, "id,age,,outcome,hospital")}, "column 3 has no name"),
        ({"text": HEADER}, "test_fraction=0.2 of 0 records leaves no test set"),
        ({"text": line(3, "2,9,m,ill")}, "line 3: 4 fields, and the header has 5"),
        ({"text": line(4, "3,,f,ill,Bern")}, "line 4: column age is empty: fill in"),
        ({"text": line(4, "3,0,f,,Bern")}, "line 4: column outcome is empty"),
        ({"text": line(4, "3,0,f,ill,")}, "line 4: column hospital is empty"),
        ({"text": line(4, "3,0,,ill,Bern")}, "line 4: column sex is empty"),
        ({"text": line(4, "3,NA,f,ill,Bern")}, "column age holds 'NA', no finite numb"),
        ({"text": line(4, "3,nan,f,ill,Bern")}, "line 4: .* holds 'nan', no finite"),
        ({"text": line(4, "3,inf,f,ill,Bern")}, "line 4: .* holds 'inf', no finite"),
        ({"text": line(4, "3,1_0,f,ill,Bern")}, "line 4: .* holds '1_0', no finite"),
        ({"text": line(4, '3,"1,5",f,ill,Bern')}, "line 4: .* holds '1,5', no finite"),
        (
            {"text": line(4, "3,1e300,f,ill,Bern"), "ranges": "*=raw"},
            "values that are .*beyond float32",
        ),
        ({"text": line(4, "3,0,x,ill,Bern")}, r"holds 'x', which categories=sex=f\|m"),
        ({"text": line(6, '5,75,f,well,"Basel')}, "line 6: unexpected end of data"),
        ({"text": line(6, '5,75,f,"we"ll,Basel')}, "line 6: .* no CSV with delimiter"),
        ({"text": WARDS.replace("Zug", "Z" * 200_000)}, "line 5: field larger than"),
        ({"text": WARDS.replace("Zug", "Z\0g")}, "line 5: .*(NUL|zero byte)"),
        ({"text": WARDS.replace("Zug", "Zürich"), "encoding": "latin-1"}, "not UTF-8"),
        ({"text": WARDS, "encoding": "utf-16"}, "is not UTF-8 text: save it as UTF-8"),
        ({"text": WARDS.replace("ill", "well")}, "every label is 'well'; a classifier"),
        ({"label": None}, "give label=COLUMN, one of id, age, sex, outcome, hospital"),
        ({"label": "died"}, "label names 'died', and the columns of .* are id, age"),
        ({"client_column": "ward"}, "client_column names 'ward', and the columns"),
        (
            {"client_column": "outcome"},
            "outcome is named by label and by client_column",
        ),
        ({"ignore": "id,name"}, "ignore names 'name', and the columns"),
        ({"ignore": "id,age"}, "column age is named by ignore and by ranges"),
        ({"ranges": "age=0:100,bmi=1:2"}, "ranges names 'bmi', and the columns"),
        ({"ranges": None}, r"nothing says what age may hold: give ranges='age=LOW"),
        ({"categories": None}, "nothing says what sex may hold: .*categories='sex=A"),
        ({"ignore": None}, "nothing says what id may hold: .* or ignore=id"),
        (
            {"ignore": "id,age,sex", "ranges": None, "categories": None},
            "no column left",
        ),
        (
            {"delimiter": ";"},
            "is a single column with delimiter ';': give delimiter=',",
        ),
        ({"text": WARDS.replace(",", ";")}, "with delimiter ',': give delimiter=';'"),
        ({"text": WARDS.replace(",", "\t")}, "delimiter ',': give delimiter=tab"),
        ({"ranges": "age=0:1;id=0:9"}, "'age=0:1;id', .*: separate columns by commas"),
        ({**WEIGHTS, "text": weights("1.5")}, "label weight holds .*such as 1.5"),
        ({**WEIGHTS, "text": weights("nan")}, "label weight holds .*such as nan"),
        (
            {"text": WARDS.replace("id", "patient id"), "ignore": None},
            "nothing says what patient id may hold: .* or ignore='patient id'",
        ),
        ({"ignore": None, "ranges": None}, "what id, age may hold: .* ignore=id,age"),
        ({"test_file": "nowhere.csv"}, "nowhere.csv cannot be read: No such file"),
        ({"test_fraction": 0.99}, "test_fraction=0.99 of 5 records leaves no training"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(changes, words, read):
    with pytest.raises(DatasetError, match=words) as raised:
        read(**changes)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"ranges": "age"},
            "ranges must be COLUMN=LOW:HIGH, separated by commas, got a",
        ),
        (
            {"ranges": "age=0"},
            "ranges must be .* LOW below HIGH, or COLUMN=raw, got age=0",
        ),
        ({"ranges": "age=9:1"}, "LOW below HIGH, or COLUMN=raw, got age=9:1"),
        ({"ranges": "age=0:nan"}, "LOW below HIGH, or COLUMN=raw, got age=0:nan"),
        ({"ranges": "age=0:inf"}, "LOW below HIGH, or COLUMN=raw, got age=0:inf"),
        ({"ranges": "age=0:1,age=0:2"}, "ranges names column age twice"),
        ({"categories": "sex"}, r"categories must be COLUMN=A\|B\|C"),
        ({"categories": "sex=f|f"}, r"categories=sex=f\|f names a value twice"),
        ({"delimiter": ";;"}, "delimiter must be one character other than a quote"),
        ({"delimiter": '"'}, "delimiter must be one character other than a quote"),
        ({"test_fraction": 1.0}, r"test_fraction must lie in \(0, 1\), got 1.0"),
        ({"split_seed": -1}, "split_seed must lie between 0 and"),
        ({"test_file": "x.csv", "split_seed": 1}, "test_file names one: leave out one"),
    ],
)
def test_settings_are_checked_before_any_file_is_opened(changes, words):
    with pytest.raises(ValueError, match=words):
        SOURCES.choose("csv:nowhere.csv", changes)


def test_a_wide_table_is_read_and_named_in_short(read):
    columns = [f"gene{i}" for i in range(3000)]
    header = ",".join(["outcome", "hospital", *columns])
    rows = [",".join([label, "Bern", *["0.5"] * 3000]) for label in "ababababab"]
    text = "\n".join([header, *rows])
    only = {"ignore": None, "categories": None}
    assert read(text, ranges="*=0:1", **only).train.inputs.shape == (8, 3000)
    with pytest.raises(DatasetError, match="gene39 and 2960 more may hold") as raised:
        read(text, ranges=None, **only)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("name", ["csv:", "csv:/nowhere/x.csv", "csv:."])
def test_what_is_no_file(name):
    with pytest.raises(DatasetError, match=r"cannot be read: (No such|Is a dir)"):
        load(name, **FLAGS)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.one_of(
        st.binary(max_size=60).map(lambda tail: HEADER.encode() + b"\n" + tail),
        st.text('id,"\n\r\0;x1é\ufeff', max_size=60).map(str.encode),
        st.tuples(st.integers(0, len(WARDS) - 1), st.binary(max_size=3)).map(
            lambda at: WARDS[: at[0]].encode() + at[1] + WARDS[at[0] + 1 :].encode()
        ),
    )
)
def test_any_bytes_are_a_data_set_or_one_sentence(write, data):
    path = write(data)
    try:
        dataset = load(f"csv:{path}", **FLAGS)
    except DatasetError as error:
        assert len(str(error)) < 1000
    else:
        assert np.isfinite(dataset.train.inputs).all()

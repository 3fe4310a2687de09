import textwrap

from docstrings import with_code_blocks, with_guarantees, with_plain_signs


def lines(text):
    return textwrap.dedent(text).strip("\n").split("\n")


def test_an_indented_block_below_a_paragraph_is_code():
    text = """
    Deals examples.

        partition(labels, 8)

    Args:
        labels: (N,) integers.

            More of it.
    """
    whole = lines(text)
    assert with_code_blocks(whole) == [*whole[:2], "::", "", *whole[2:]]


def test_a_sentence_that_ends_in_a_colon_is_no_section():
    text = ["Each imports those above:", "", "    errors <- parameters"]
    assert with_code_blocks(text) == [*text[:2], "::", "", text[2]]


def test_list_items_and_sections_are_no_code():
    text = """
    Chooses:

    - one,

      and more of it;

    Raises:

        ValueError: never.
    """
    assert with_code_blocks(lines(text)) == lines(text)


def test_stars_and_bars_are_signs_but_for_emphasis_and_code():
    assert with_plain_signs(["(N, *shape) |g| *word* `a*b|c`"]) == [
        r"(N, \*shape) \|g\| *word* `a*b|c`"
    ]
    assert with_plain_signs(["::", "", "    f(*args)", "out *args"]) == [
        "::",
        "",
        "    f(*args)",
        r"out \*args",
    ]
    assert with_plain_signs(["* item"]) == ["* item"]


def test_a_paragraph_of_guarantees_is_a_section():
    got = with_guarantees(
        lines("A.\n\nFormal guarantees: the norm\nis at most C.\n\nB.")
    )
    assert got == [
        "A.",
        "",
        "",
        "Formal guarantees:",
        "    The norm",
        "    is at most C.",
        "",
        "B.",
    ]
    assert with_guarantees(["Formal guarantees. It is so."]) == [
        "",
        "Formal guarantees:",
        "    It is so.",
    ]
    section = ["Formal guarantees:", "    As it is."]
    assert with_guarantees(section) == section

"""What is printed: tables, and words for a shell."""

import shlex

import pytest

from tlkeras import terminal


def test_tables_are_aligned():
    rows = [("accuracy", "0.9120"), ("log loss", "11.25"), ("花", "3")]
    assert terminal.table(rows, ("measure", "test")) == "\n".join(
        [
            "measure     test",
            "--------  ------",
            "accuracy  0.9120",
            "log loss   11.25",
            "花             3",
        ]
    )
    assert terminal.table([], ("a", "bc")) == "a  bc\n-  --"
    assert terminal.table([("x\ny", "1,234,567", "")], ("name", "bytes", "value")) == "\n".join(
        ["name      bytes  value", "----  ---------  -----", "x y   1,234,567"]
    )


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("--guests=5", "--guests=5"),
        ("--pans=wok|grill", "'--pans=wok|grill'"),
        ("--pan=grill(kind='gas')", "\"--pan=grill(kind='gas')\""),
        ("--dish=it's $5", "'--dish=it'\"'\"'s $5'"),
    ],
)
def test_a_word_is_quoted_only_where_a_shell_needs_it(word, quoted):
    assert terminal.quoted([word]) == quoted and shlex.split(quoted) == [word]

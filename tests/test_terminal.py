"""What is printed: tables."""

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

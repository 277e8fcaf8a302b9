"""What the README says of the oracle is what it prints."""

import pathlib
import re

README = (pathlib.Path(__file__).parents[2] / "README.md").read_text()


def test_the_example_prints_the_report_that_stands_below_it(capsys):
    code, report = re.search(
        r"```python\n(import torch\n.*?)```\n\n```\n(.*?)```", README, re.S
    ).groups()
    exec(code, {"__name__": "readme"})
    assert capsys.readouterr().out == report

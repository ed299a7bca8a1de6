"""Every page has the frame, escapes what it shows, and refuses a name that nobody gave."""

import re
from datetime import UTC, datetime

import pytest
from jinja2 import UndefinedError

import litetext
from litetext.pages import command_line, page_environment


@pytest.mark.parametrize("package", ["litetext.auditing", "litetext.evaluation", "litetext.micro", "litetext.sam3"])
def test_every_template_extends_the_frame(package: str) -> None:
    environment = page_environment(package)
    own = set(environment.list_templates(["html"])) - {"page.html", "table.html"}
    assert own
    for name in own:
        source, *_ = environment.loader.get_source(environment, name)  # type: ignore[union-attr]
        assert source.startswith('{% extends "page.html" %}')


def test_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/litetext", "audit", "my prompts.txt", "a<b"])
    environment = page_environment("litetext.auditing")
    page = environment.from_string(
        '{% extends "page.html" %}{% block title %}{{ name }}{% endblock %}{% block style %}b { c: d }{% endblock %}'
        "{% block content %}<p>{{ name | code | safe }}</p>{% endblock %}"
    )
    html = page.render(name="a < `b < c`")
    assert html.startswith("<!doctype html>")
    assert "<title>a &lt; `b &lt; c`</title>" in html
    assert "b { c: d }\n</style>" in html
    assert "<main>\n<p>a &lt; <code>b &lt; c</code></p>\n</main>" in html
    foot = html[html.index("<footer") :]
    assert f"{datetime.now(UTC):%Y-%m-%d}" in foot
    assert litetext.__version__ in foot
    assert "<code>litetext audit &#39;my prompts.txt&#39; &#39;a&lt;b&#39;</code>" in foot
    with pytest.raises(UndefinedError, match="name"):
        page.render()


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("/opt/bin/litetext", "litetext demo -o 'a b'"),
        ("C:/litetext.exe", "litetext demo -o 'a b'"),
        ("/lib/litetext/__main__.py", "litetext demo -o 'a b'"),
        ("/usr/bin/pytest", ""),
        ("/lib/ipykernel/__main__.py", ""),
        ("", ""),
    ],
)
def test_the_command_as_it_was_typed(monkeypatch: pytest.MonkeyPatch, program: str, command: str) -> None:
    monkeypatch.setattr("sys.argv", [program, "demo", "-o", "a b"])
    assert command_line() == command


def test_a_table_names_its_rows_and_columns() -> None:
    render = page_environment("litetext.auditing").get_template("table.html").module.table  # type: ignore[attr-defined]
    html = str(render("what <it> shows", ["name", "count", "share"], [["a & b", 3, "5 %"], ["c", 4, ""]]))
    assert "<caption>what &lt;it&gt; shows</caption>" in html
    assert re.findall(r'<th scope="(\w+)">([^<]*)</th>', html) == [
        ("col", "name"), ("col", "count"), ("col", "share"), ("row", "a &amp; b"), ("row", "c"),
    ]  # fmt: skip
    assert re.findall(r'<td data-label="(\w+)">([^<]*)</td>', html) == [
        ("count", "3"), ("share", "5 %"), ("count", "4"), ("share", ""),
    ]  # fmt: skip
    assert 'class="wide"' not in html
    assert 'class="wide"' in str(render("", list("abcde"), []))

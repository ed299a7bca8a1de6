"""Every page has the frame, escapes what it shows, and refuses a name that nobody gave."""

import pytest
from jinja2 import UndefinedError

from litetext.pages import page_environment


@pytest.mark.parametrize("package", ["litetext.auditing", "litetext.evaluation", "litetext.micro"])
def test_every_template_extends_the_frame(package: str) -> None:
    environment = page_environment(package)
    own = [name for name in environment.list_templates(["html"]) if name != "page.html"]
    assert own
    for name in own:
        source, *_ = environment.loader.get_source(environment, name)  # type: ignore[union-attr]
        assert source.startswith('{% extends "page.html" %}')


def test_a_page() -> None:
    environment = page_environment("litetext.auditing")
    page = environment.from_string(
        '{% extends "page.html" %}{% block title %}{{ name }}{% endblock %}{% block style %}b { c: d }{% endblock %}'
        "{% block content %}<p>{{ name }}</p>{% endblock %}"
    )
    html = page.render(name="a < b")
    assert html.startswith("<!doctype html>")
    assert "<title>a &lt; b</title>" in html
    assert "b { c: d }\n</style>" in html
    assert "<p>a &lt; b</p>\n</body>\n</html>" in html
    with pytest.raises(UndefinedError, match="name"):
        page.render()

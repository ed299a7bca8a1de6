"""Pages: the frame and the style that every page of LiteText has, and how templates are read."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def page_environment(package: str) -> Environment:
    """An environment for the templates of a package, which extend ``page.html``; an unknown name is an error."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("litetext")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

"""Renders the text formats (nginx, sentinel, HTML) that no typed object stands for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def render(directory: Path, name: str, values: Mapping[str, Any]) -> str:
    """Return the template filled in; a name that the template asks for and lacks is an error.

    Raises:
        jinja2.UndefinedError: The template names a value that is not given.
    """
    import jinja2  # a quarter of `import ops`; few charms render text

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(directory),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=jinja2.select_autoescape(["html"]),
    )
    return environment.get_template(name).render(values)

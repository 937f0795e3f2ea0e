"""What every page is made with: one style sheet, one script, everything escaped, nothing loaded."""

import hashlib
from base64 import b64encode
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_HERE = Path(__file__).parent


def page(template: str, **values: object) -> str:
    """One HTML page; the values include what `page.html` asks for: kind, title and verdict.

    Everything in the values is escaped. The page's content security policy allows the one script
    and the one style sheet by their checksums and nothing else: no address is ever loaded.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_own_text(f"report.{kind}") for kind in ("css", "js"))
    policy = (
        f"default-src 'none'; style-src {_checksum(style)}; script-src {_checksum(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(
        policy=policy, style=style, script=script, **values
    )


def _own_text(name: str) -> Markup:
    return Markup((_HERE / name).read_text(encoding="utf-8"))


def _checksum(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

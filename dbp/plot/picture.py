"""Draw a picture with matplotlib, which is imported only here, when a picture is drawn."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from dbp.errors import InvalidInput, MissingDependency

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Form = Literal["png", "svg"]
FORMS: Final[tuple[Form, ...]] = ("png", "svg")
EXTRA: Final = "pip install 'dbp[plot]'"


def picture_form(file: Path) -> Form:
    """Return the format that the suffix of a file names; raises InvalidInput for others."""
    for form in FORMS:
        if file.suffix.lower() == f".{form}":
            return form
    raise InvalidInput(
        f"{file}: the suffix chooses the format: .{', .'.join(FORMS)}; got {file.suffix!r}"
    )


def check_installed() -> None:
    """Raise MissingDependency if matplotlib cannot be imported."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            f"pictures need matplotlib ({error}); install it with: {EXTRA}"
        ) from error


def picture(draw: Callable[[Figure], None], form: Form) -> bytes:
    """Return the bytes of a picture that ``draw`` fills; no window, no display is needed.

    Raises MissingDependency without matplotlib.
    """
    check_installed()
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The text of an SVG stays text, which can be searched; with a fixed salt for the names of
    # its elements the same data give the same bytes. A $ in a name is no formula.
    settings = mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "dbp", "text.parse_math": False}
    )
    with settings, _without_glyph_warnings():
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        content = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else None
        figure.savefig(content, format=form, dpi=150, bbox_inches="tight", metadata=metadata)
    return content.getvalue()


@contextlib.contextmanager
def _without_glyph_warnings() -> Iterator[None]:
    """Draw a name whose script the font lacks as boxes, without a warning for each letter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield

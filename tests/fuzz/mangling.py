"""Good input with something done to it: most faults of parsers are one step away from what is right."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import strategies as st

Text = TypeVar("Text", str, bytes)


@st.composite
def mangled(
    draw: st.DrawFn, good: st.SearchStrategy[Text], words: Sequence[Text], noise: st.SearchStrategy[Text]
) -> Text:
    """One of *good* after a few steps; what is put in is one of *words*, or *noise*."""
    text = draw(good)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 40)))
        step: Callable[[], Text] = draw(
            st.sampled_from([
                lambda: text[:start] + text[end:],  # noqa: B023 - called at once
                lambda: text[:end] + text[start:],  # noqa: B023
                lambda: text[:start] + draw(st.sampled_from(words)) + text[start:],  # noqa: B023
                lambda: text[:start] + draw(st.sampled_from(words)) + text[end:],  # noqa: B023
                lambda: text[:start] + draw(noise) + text[end:],  # noqa: B023
            ])
        )  # fmt: skip
        text = step()
    return text

"""What axe-core, the engine of most accessibility checkers, finds wrong with a page."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from chromium import Page

from tlkeras.formats import npm

WIDTHS = (390, 1280)
"""A phone's and a desk's, in pixels."""

SCHEMES = ("light", "dark")

_AXE = npm.Package(
    "axe-core",
    "4.14.1",
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
)

_RUN = """
axe.run(document, {resultTypes: ['violations']}).then(({violations}) => violations.flatMap(
    ({id, help, nodes}) => nodes.map(({target, any, all, none}) => `${id}: ${help}: ${target}: `
        + [...any, ...all, ...none].map(({message}) => message).join(' '))))
"""


@functools.cache
def _source() -> str:
    try:
        return npm.read(_AXE, ["axe.min.js"])["axe.min.js"].decode()
    except npm.Unreachable as error:
        pytest.skip(str(error))


def violations(page: Page) -> Iterator[str]:
    """Yields what is wrong with an open page at both widths and in both schemes of colours.

    What is folded away is opened before.
    """
    source = _source()
    page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.run(source)
    for scheme in SCHEMES:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.call("Emulation.setEmulatedMedia", features=features)
        for width in WIDTHS:
            page.resize(width)
            for each in page.run(_RUN):
                yield f"{scheme}, {width} px: {each}"
            if page.run("document.documentElement.scrollWidth > innerWidth"):
                yield f"{scheme}, {width} px: the page is wider than the window"
    page.call("Emulation.setEmulatedMedia", features=[])
    page.call("Emulation.clearDeviceMetricsOverride")

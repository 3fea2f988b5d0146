"""Chromium for the tests of the study's pages."""

from tests.browser import browser, open_page

__all__ = ["browser", "open_page"]

"""Pages in headless Chromium: Debian's, with its driver."""

from __future__ import annotations

import base64
import json
import shutil
from contextlib import contextmanager

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

# In the page: the box of every mark of a group, what is in definitions left out; a flat line has no height.
_MARKS = """
const marks = [...document.querySelectorAll(arguments[0])].filter(e => !e.closest("defs, clipPath, pattern"));
return marks.map(e => { const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; });
"""


class Page:
    """A page that is open, and what it asked for and complained of meanwhile."""

    def __init__(self, driver):
        self.run = driver.execute_script
        self._cdp = driver.execute_cdp_cmd
        self.console = [entry["message"] for entry in driver.get_log("browser")]
        events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        asked = [
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        ]
        self.requests = [url for url in asked if not url.startswith("data:")]

    def marks(self, plot, group):
        """Boxes (x, y, width, height) of the marks of a group of a plot."""
        within = f'svg[aria-labelledby="{plot}-title"] .marks-{group}'
        return self.run(_MARKS, f"{within} path, {within} use, {within}:is(image)")

    def images(self, plot):
        """Boxes of the images in a plot."""
        return self.run(_MARKS, f'svg[aria-labelledby="{plot}-title"] image')

    def tips(self, plot, group):
        """What is said of each mark."""
        query = f'svg[aria-labelledby="{plot}-title"] g.marks-{group} title'
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", query)

    def plots(self):
        """Names of the plots."""
        names = self.run("return [...document.querySelectorAll('svg')].map(e => e.getAttribute('aria-labelledby'))")
        return [name.removesuffix("-title") for name in names]

    def rows(self, table):
        """What stands in a table, row by row, without its heading."""
        return self.run(
            "return [...document.querySelectorAll('#' + arguments[0] + ' tbody tr')]"
            ".map(r => [...r.cells].map(c => c.textContent))",
            table,
        )

    def text(self, query="body"):
        """What is read there."""
        return self.run("return document.querySelector(arguments[0]).innerText", query)

    def picture(self):
        """A PNG of the whole page."""
        shot = self._cdp("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
        return base64.b64decode(shot["data"])


class Browser:
    """Opens pages, in a window of its own for all of them."""

    def __init__(self, driver):
        self._driver = driver

    def open(self, path, width=1400, mode="light", media="screen"):
        """Open a file in a window of so many pixels."""
        told = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", told)
        scheme = {"name": "prefers-color-scheme", "value": mode}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})
        for log in ("browser", "performance"):  # of the page before
            self._driver.get_log(log)
        self._driver.get(path.as_uri())
        return Page(self._driver)


@contextmanager
def chromium():
    """A browser as long as the block runs."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    assert all(programs.values()), f"{programs}: install Debian's chromium and chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs["chromedriver"]))
    try:
        yield Browser(driver)
    finally:
        driver.quit()

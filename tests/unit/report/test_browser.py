"""The page in a real browser: it draws something everywhere, without network and without script."""

import os
import shutil
from pathlib import Path
from subprocess import run

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.image import imread

from tacit.report import write_report
from tests.unit.report import made_runs
from tests.unit.report.pages import Page
from tests.unit.report.test_html import HEADINGS

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@pytest.fixture
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and os.environ.get("CI"):
        pytest.fail("no Chromium on PATH")
    if found is None:
        pytest.skip("no Chromium on PATH")
    return found


def opened(browser: str, page: Path, profile: Path, *options: str) -> str:
    command = [browser, *OPTIONS, f"--user-data-dir={profile}", *options, page.as_uri()]
    return run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def colours(picture: npt.NDArray[np.float32]) -> int:
    return len(np.unique(np.rint(picture[..., :3].reshape(-1, 3) * 255), axis=0))


@pytest.mark.browser
def test_a_browser_draws_every_part_of_the_page(browser: str, tmp_path: Path) -> None:
    page = write_report(made_runs.digits(tmp_path / "digits"))
    picture = tmp_path / "page.png"
    opened(browser, page, tmp_path / "profile", f"--screenshot={picture}", "--window-size=1200,3000")
    drawn = imread(picture)
    assert drawn.shape[:2] == (3000, 1200)
    assert all(colours(band) > 30 for band in np.split(drawn, 6))
    dom = Page(opened(browser, page, tmp_path / "profile", "--dump-dom"))
    assert dom.headings == HEADINGS

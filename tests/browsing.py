"""The console as a person has it: a tab of a real Chromium that fails on what nobody should see."""

import base64
import shutil
from importlib.util import find_spec

import pytest

from tests.constants import KEY

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = (
    "no Playwright or no Chromium here; this lets them run: apt-get install -y chromium && "
    ".venv/bin/python -m pip install -qq --no-build-isolation -e '.[browser]'"
)
# One service and one browser for all of them, so all are in one group.
IN_A_BROWSER = [
    pytest.mark.end_to_end,
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(not (CHROMIUM and find_spec("playwright")), reason=MISSING),
]
WITHIN_MS = 15_000  # other tests load the machine
REDACT = """(texts) => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode())
    for (const text of texts) walker.currentNode.data = walker.currentNode.data.replaceAll(text, "…");
}"""


class Tab:
    """A tab in a window of its own: cookies, storage and all. `faults` has what the page should not
    have said: errors of script, of its policy or of loading, and dialogs.
    """

    def __init__(self, browser, base, *, script=True, width=1280):
        self.base = base
        self.window = browser.new_context(
            java_script_enabled=script,
            viewport={"width": width, "height": 900},
            color_scheme="light",
            base_url=base,
        )
        self.window.set_default_timeout(WITHIN_MS)
        self.faults = []
        self.page = self.opened()

    def opened(self):
        """One more tab of the same window."""
        page = self.window.new_page()
        page.on("console", lambda said: said.type == "error" and self.faults.append(said.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", self._dismiss)
        return page

    def _dismiss(self, dialog):
        self.faults.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def log_in(self, key=KEY, name=""):
        self.page.goto("/")
        return self.enter(key, name)

    def enter(self, key, name=""):
        """Logs in with the form that is open."""
        self.page.get_by_label("API key or view key").fill(key)
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_role("button", name="Log in").click()
        self.page.get_by_role("button", name="Log out").wait_for()
        return self.page

    def cookie(self, name="endtape_session"):
        return next((c for c in self.window.cookies() if c["name"] == name), None)

    def status(self, method, path):
        """What the server answers to a request of the page that is open, as its script sends it."""
        return self.page.evaluate(
            "([path, method]) => fetch(path, { method, redirect: 'manual' })"
            ".then((answer) => answer.status || answer.type)",
            [path, method],
        )

    def too_wide(self):
        """By how many pixels the page is wider than its window."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )

    def picture(self, file, *private):
        """Writes the whole page, at most 1,600 pixels of its height, as WebP; without the texts
        that are this machine's own.
        """
        self.page.evaluate(REDACT, private)
        wide, high = self.page.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": wide, "height": min(high, 1600), "scale": 1}
        asked = {"format": "webp", "quality": 60, "captureBeyondViewport": True, "clip": clip}
        shown = self.window.new_cdp_session(self.page).send("Page.captureScreenshot", asked)
        file.write_bytes(base64.b64decode(shown["data"]))


def serious(axe, page, *rules):
    """What axe finds serious or critical on a page, a line each; by these rules, or all."""
    asked = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    found = axe.run(page, options=asked).response["violations"]
    return [
        f"{page.url}: {one['id']}: {node['target']} {node['html'][:120]}"
        for one in found
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]

"""A tab of the page in headless Chromium that tells what it paints: ``python -m benchmarks.tab ADDRESS``.

Prints a line about once a second: a JSON list with what each paint since the last line showed (see ``describe`` in the
page's ``feed.js``) and ``painted``, seconds since the epoch when the browser had painted it. Ends when standard input
closes.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading

from playwright.sync_api import sync_playwright

from .processes import chromium_flags

#: A message posted while a frame is being drawn is handled after that frame has been painted.
LISTEN = """() => {
  window.paints = []
  document.addEventListener("agentwrap:painted", event => {
    const {port1, port2} = new MessageChannel()
    port1.onmessage = () => {
      window.paints.push({...event.detail, painted: (performance.timeOrigin + performance.now()) / 1000})
      port1.close()
    }
    port2.postMessage(null)
  })
}"""


def main(address: str) -> None:
    """Open the page and report until told to stop."""
    stopped = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        stopped.set()

    threading.Thread(target=watch, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=chromium_flags())
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        page.evaluate(LISTEN)
        while not stopped.is_set():
            page.wait_for_timeout(1000)
            print(json.dumps(page.evaluate("window.paints.splice(0)")), flush=True)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])

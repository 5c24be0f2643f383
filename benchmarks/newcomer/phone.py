"""newcomer.phone: content of the report that lies outside a screen of 390 px.

    python -m benchmarks.newcomer.phone [--report FILE] [--width 390]

Runs nano, or takes the report of a finished run, and opens it in headless Chromium in a frame as wide as a phone's
screen, with every closed part opened. Counted are elements that end beyond the right edge or begin before the left one,
elements that only sideways scroll shows in full, text in a picture that the picture's edge cuts, and text smaller than
8 px, which nobody reads. The frame's own script measures; the report has none and is not changed.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HEIGHT = 844
SMALLEST = 8
"""Pixels, of the font as it is shown."""
SECONDS = 300
SCRIPT = """
const frame = document.querySelector("iframe"), width = WIDTH, smallest = SMALLEST, found = [];
const say = (e, what) => found.push({what, element: e.tagName.toLowerCase() + (e.getAttribute("class") ? "." +
  e.getAttribute("class") : ""), text: (e.textContent || "").trim().slice(0, 60)});
function measure() {
  const page = frame.contentDocument;
  page.querySelectorAll("details").forEach(e => e.open = true);
  const root = page.documentElement, all = [...page.body.querySelectorAll("*")];
  let shown = 0;
  for (const e of all) {
    const box = e.getBoundingClientRect(), style = page.defaultView.getComputedStyle(e);
    if (!box.width && !box.height || style.display === "none") continue;
    shown++;
    if (box.right > width + 0.5) say(e, `ends at ${box.right.toFixed(0)}`);
    else if (box.left < -0.5) say(e, `begins at ${box.left.toFixed(0)}`);
    else if (!e.ownerSVGElement && style.overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1)
      say(e, `needs ${e.scrollWidth} of ${e.clientWidth}`);
    else if (e.ownerSVGElement && e.tagName === "text") {
      const svg = e.ownerSVGElement, edge = svg.getBoundingClientRect();
      if (box.right > edge.right + 1 || box.left < edge.left - 1) say(e, "cut by its picture");
      const pixels = parseFloat(style.fontSize) * edge.width / svg.viewBox.baseVal.width;
      if (pixels < smallest) say(e, `letters of ${pixels.toFixed(1)} px`);
    }
  }
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = JSON.stringify({shown, width: root.scrollWidth, inner: page.defaultView.innerWidth, found});
  document.body.replaceChildren(result);
}
frame.addEventListener("load", measure);
frame.srcdoc = REPORT;
"""


def browser() -> str:
    """Path of a Chromium. Ends with what to install where there is none."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise SystemExit(
        f"newcomer.phone needs one of the browsers {', '.join(BROWSERS)}; on Debian: apt-get install chromium"
    )


def measured(report: Path, width: int, chromium: str) -> dict[str, Any]:
    """What the script found in the report: elements shown, width of the page, elements outside.

    Ends where the browser cannot open it.
    """
    # The report is a string of the script: `</` would end the script.
    text = json.dumps(report.read_text(encoding="utf-8")).replace("</", "<\\/").replace("<!--", "<\\!--")
    values = {"WIDTH": str(width), "SMALLEST": str(SMALLEST), "REPORT": text}
    script = re.sub("WIDTH|SMALLEST|REPORT", lambda match: values[match.group()], SCRIPT)
    frame = f'<iframe style="border:0;width:{width}px;height:{HEIGHT}px"></iframe>'
    page = f'<!doctype html><meta charset="utf-8"><body style="margin:0">{frame}<script>{script}</script></body>'
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "frame.html"
        file.write_text(page, encoding="utf-8")
        command = [
            chromium,
            "--headless=new",
            "--no-sandbox",  # the page is our own; as root, Chromium does not start without
            "--disable-gpu",
            "--hide-scrollbars",  # a phone's lie over the page
            f"--user-data-dir={temporary}/profile",
            f"--window-size={max(width, 500)},{HEIGHT}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            file.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    if done.returncode != 0 or found is None:
        raise SystemExit(f"{chromium}: no result (exit status {done.returncode})\n{done.stderr[-2000:]}")
    return json.loads(html.unescape(found.group(1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="report.html of a finished run; without it nano is run")
    parser.add_argument("--width", type=int, default=390, help="width of the screen in px")
    given = parser.parse_args()
    chromium = browser()
    with tempfile.TemporaryDirectory() as temporary:
        report = given.report
        if report is None:
            command = [sys.executable, "-m", "thinkling", "run", "nano"]
            subprocess.run(command, cwd=temporary, check=True, stdout=sys.stderr)
            report = Path(temporary) / "runs" / "nano" / "report.html"
        result = measured(report, given.width, chromium)
    if result["inner"] != given.width:
        raise SystemExit(f"the frame is {result['inner']} px wide and not {given.width}")
    for one in result["found"]:
        print(one, flush=True)
    value = len(result["found"]) + (result["width"] > given.width)
    runs = [{"width": given.width, "page_width": result["width"], "found": result["found"]}]
    measurement = {"value": value, "n": result["shown"], "runs": runs, "unit": "elements"}
    print(json.dumps({"measurements": {"newcomer.phone": measurement}}))


if __name__ == "__main__":
    main()

"""`litetext app` with the micro model: how soon it is there, how fast it answers, and many clients at once.

    python -m benchmarks app [--seconds 300] [--clients 16] [--no-browser]

Clients upload a picture of their own, ask for phrases, and compare every answer with what Python gives; in between they
ask wrongly. Memory is that of the server's process. Times of the page are those of Chromium, where that is installed.
"""

import argparse
import io
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from PIL import Image
from tests.app.pages import call, file_of, segment, served, upload

import litetext as lt
from litetext.micro.phrases import make_pairs
from litetext.micro.scenes import SceneOptions

CHROMIUM = Path("/usr/bin/chromium")
ROUNDS = 15
# Milliseconds from a click to the answer on the page: the legend has other phrases then.
CLICK = """([wanted, button]) => new Promise((done, fail) => {
  const began = performance.now(), root = document.querySelector("#found");
  const there = () => [...root.querySelectorAll(".lt-legends section:first-child li")].length === wanted;
  const watch = new MutationObserver(() => there() && (watch.disconnect(), done(performance.now() - began)));
  setTimeout(() => fail("no answer on the page: " + document.body.innerText.slice(-200)), 20000);
  watch.observe(root, { subtree: true, childList: true });
  button.click();
})"""


def resident(pid: int) -> float:
    """Resident memory of a process in MB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


def questions(clients: int) -> list[tuple[bytes, str, dict[str, Any]]]:
    """Of each client a picture (PNG), phrases, and the annotations that Python gives for each text encoder."""
    segmenters = {name: lt.Segmenter.from_pretrained("micro", name, threads=1) for name in ("micro", "micro-student")}
    asked = []
    for number in range(clients):
        pairs = list(make_pairs(9000 + number, 6, SceneOptions(split="test")))
        phrases = list(dict.fromkeys(pair.phrase.text for pair in pairs[:4]))
        Image.fromarray(pairs[0].scene.pixels).save(file := io.BytesIO(), "PNG")
        wanted = {}
        for name, segmenter in segmenters.items():
            found = enumerate(segmenter(pairs[0].scene.pixels, phrases), 1)
            every = [one for place, masks in found for one in masks.to_coco(1, place)]
            wanted[name] = json.loads(json.dumps([{"id": place, **one} for place, one in enumerate(every, 1)]))
        asked.append((file.getvalue(), "\n".join(phrases), wanted))
    return asked


def ask_as_client(question: tuple[bytes, str, dict[str, Any]], address: str, until: float, seen: list[Any]) -> None:
    """Ask until a moment; every answer is compared."""
    picture, phrases, wanted = question
    while time.time() < until:
        began = time.perf_counter()
        try:
            path = upload(address, "scene.png", picture).json()[0]
            kind, answer = segment(address, path, phrases)
            took = time.perf_counter() - began
            got = {name: one["annotations"] for name, one in answer[0]["found"].items()} if kind == "complete" else None
            if len(seen) % 7 == 0:
                kind, answer = call(address, "segment", file_of("/etc/passwd"), "x", "", 0.5, 0.5)
                got = got if kind == "error" else None
            seen.append({"seconds": took, "right": got == wanted, "error": got is None})
        except (httpx.HTTPError, ValueError, LookupError) as error:
            seen.append({"seconds": 0.0, "right": False, "error": True, "what": repr(error)})


def load(address: str, pid: int, clients: int, seconds: float) -> dict[str, Any]:
    """Many clients at once: answers, and the memory of the server at each tenth of the time."""
    seen: list[dict[str, Any]] = []
    asked = questions(clients)
    began = time.time()
    until = began + seconds
    threads = [threading.Thread(target=ask_as_client, args=(one, address, until, seen)) for one in asked]
    memory = []
    for thread in threads:
        thread.start()
    for tenth in range(1, 11):
        time.sleep(max(0.0, began + seconds * tenth / 10 - time.time()))
        memory.append(round(resident(pid), 1))
    for thread in threads:
        thread.join()
    return {
        "clients": clients,
        "seconds": seconds,
        "answers": len(seen),
        "wrong": sum(not one["right"] for one in seen),
        "errors": sum(one["error"] for one in seen),
        "faults": sorted({one["what"] for one in seen if "what" in one})[:5],
        "median_seconds": median(one["seconds"] for one in seen),
        "resident_mb": memory,
        "growth": round(memory[-1] / memory[2], 3),  # since three tenths: by then all that is kept is there
    }


def in_browser(address: str, folder: Path) -> dict[str, Any]:
    """Milliseconds until the page can be used, and from a click to an answer: another picture, another phrase."""
    from playwright.sync_api import sync_playwright

    pictures = []
    for number, pair in enumerate(make_pairs(77, 6 * ROUNDS, SceneOptions(split="test"))):
        if number % 6 == 0:
            pictures.append(folder / f"{number}.png")
            Image.fromarray(pair.scene.pixels).save(pictures[-1])
    usable, cold, warm = [], [], []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for _ in range(5):
            page = browser.new_page()
            began = time.perf_counter()
            page.goto(address)
            page.get_by_role("button", name="Another scene").wait_for()
            usable.append(1000 * (time.perf_counter() - began))
            page.close()
        page = browser.new_page()
        page.goto(address)
        field = page.get_by_label("Phrases, one a line")
        button = page.get_by_role("button", name="Segment", exact=True).element_handle()
        for number, picture in enumerate(pictures):
            page.locator("input[type=file]").first.set_input_files(picture)
            page.get_by_role("button", name="Remove Image").wait_for()
            page.wait_for_timeout(300)
            field.fill(f"red car\nwhite dog\nbird\nvehicle {number}")
            cold.append(page.evaluate(CLICK, [4, button]))
            field.fill(f"animal {number}\ncar\nthing")
            warm.append(page.evaluate(CLICK, [3, button]))
            page.get_by_role("button", name="Remove Image").or_(page.get_by_role("button", name="Clear")).first.click()
        browser.close()
    figures = {"usable_ms": usable, "four_phrases_ms": cold, "again_ms": warm}
    return {name: round(median(times), 1) for name, times in figures.items()}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks app")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--no-browser", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, starts = Path(name), []
        for _ in range(3):
            began = time.perf_counter()
            with served(folder=folder):
                starts.append(round(time.perf_counter() - began, 2))
        with served(folder=folder) as (address, process):
            figures: dict[str, Any] = {"start_seconds": median(starts)}
            if CHROMIUM.is_file() and not options.no_browser:
                figures |= in_browser(address, folder)
            figures |= load(address, process.pid, options.clients, options.seconds)
            left = sum(file.is_file() for file in folder.glob("litetext-app-*/**/*"))
        figures |= {"files_while_running": left, "folders_after": len(list(folder.glob("litetext-app-*")))}
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    main()

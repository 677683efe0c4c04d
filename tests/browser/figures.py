"""What Chromium's own tracing says of the page: the tasks of its main thread, and what the longest were made of."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

CATEGORIES = ["disabled-by-default-devtools.timeline", "devtools.timeline", "__metadata"]
INSIDE = frozenset({
    "FunctionCall", "FireAnimationFrame", "Layout", "UpdateLayoutTree", "Paint", "PrePaint", "Layerize", "Commit",
    "MinorGC", "MajorGC", "V8.GC_MC_INCREMENTAL", "RunMicrotasks", "TimerFire", "ParseHTML", "HitTest",
})  # fmt: skip
"""What is told of a task's inside."""

Event = dict[str, Any]


class Task:
    """One task of the main thread. Times in ms: by the clock, and of the processor."""

    def __init__(self, event: Event, inside: Iterable[Event]) -> None:
        self.thread = (int(event["pid"]), int(event["tid"]))
        """Process and thread, as the kernel numbers them."""
        took: float = event["dur"]
        self.clock = took / 1000
        self.processor = float(event.get("tdur", took)) / 1000
        self.parts = sorted(
            ((one["name"], round(one["dur"] / 1000, 1)) for one in inside if one["dur"] > 500),
            key=lambda part: -part[1],
        )[:6]


def tasks_of(trace: bytes) -> list[Task]:
    """Return the tasks of the page's main thread."""
    events: list[Event] = json.loads(trace)["traceEvents"]
    named = [one for one in events if one.get("name") == "thread_name"]
    main = {(one["pid"], one["tid"]) for one in named if one["args"]["name"] == "CrRendererMain"}
    own = [one for one in events if (one.get("pid"), one.get("tid")) in main and "dur" in one]
    inner = [one for one in own if one["name"] in INSIDE]
    return [
        Task(task, (one for one in inner if task["ts"] <= one["ts"] <= task["ts"] + task["dur"]))
        if task["dur"] > 10_000 else Task(task, ())
        for task in own if task["name"] == "RunTask"
    ]  # fmt: skip


def watched(browser: Browser, page: Page, milliseconds: float) -> list[Task]:
    """Trace a page for a while."""
    browser.start_tracing(page=page, categories=CATEGORIES)
    page.wait_for_timeout(milliseconds)
    return tasks_of(browser.stop_tracing())


def waited(thread: tuple[int, int]) -> float:
    """Return for how many ms in all the kernel has let a thread wait for a processor (proc(5), schedstat)."""
    process, number = thread
    return int(Path(f"/proc/{process}/task/{number}/schedstat").read_text().split()[1]) / 1e6

import threading
import urllib.request

import cv2
import numpy as np
import pytest

from policy_bringup.console.page import LOG_LENGTH, MAX_NODES, PICTURE_WIDTHS, Commands, Page
from policy_bringup.console.words import COLOURS, Health, Transition
from policy_bringup.core import graph
from policy_bringup.core.types import ImageSample, Pose

S = 1_000_000_000
NOW = 1000 * S
STOP = Transition(NOW, "tool.z 0.003 m is below its limit", "policy", "RETRY", "FALLBACK", "BOUNDS")
BUTTONS = {
    "Arm": "arm",
    "Disarm": "disarm",
    "Soft stop: not an emergency stop": "stop",
    "Reset": "reset",
    "Home": "home",
    "Start recording": "start recording",
}


def state(word: str) -> dict[str, str]:
    return {"state": word, "source": "policy"}


def picture(width: int, height: int, value: int = 200) -> ImageSample:
    return ImageSample(NOW, NOW, "front", np.full((height, width, 3), value, dtype=np.uint8))


def decode(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, dtype=np.uint8), cv2.IMREAD_COLOR)


def watched(page: Page, browser) -> None:
    """Until the server has taken note of the browser."""
    count = 0
    while not page.watched:
        page.trial({"count": f"{(count := count + 1)};"})
        page.refresh(NOW)
        browser.wait(lambda: f"{count};" in browser.text)
    page.refresh(NOW)


def test_the_page_answers_over_http(page: Page):
    with urllib.request.urlopen(page.url) as answer:
        assert answer.status == 200


def test_the_state_is_shown_with_its_sentence_and_source(page: Page, browser):
    page.state("armed by the operator", state("ACTIVE"), NOW)
    page.refresh(NOW)
    browser.wait(lambda: ">ACTIVE<" in browser.text)
    assert "armed by the operator" in browser.text
    assert "source: policy" in browser.text
    assert COLOURS["ACTIVE"] in browser.text


def test_a_state_is_believed_up_to_its_age_limit_and_no_longer(page: Page, browser):
    limit_ns = round(graph.topic("safety/state").stale_s * S)
    page.state("armed", state("ACTIVE"), NOW)
    page.refresh(NOW + limit_ns)
    browser.wait(lambda: ">ACTIVE<" in browser.text)
    page.refresh(NOW + limit_ns + 1)
    browser.wait(lambda: ">SILENT<" in browser.text)
    assert ">ACTIVE<" not in browser.text


def test_a_page_that_opens_before_safety_says_that_it_heard_nothing(page: Page, browser):
    page.refresh(NOW)
    browser.wait(lambda: "nothing heard yet" in browser.text)


def test_why_it_stopped_stays_when_the_state_goes_on(page: Page, browser):
    page.transition(STOP)
    page.transition(Transition(NOW + S, "disarmed", "operator", "FALLBACK", "READY", "OPERATOR"))
    page.state("disarmed", state("READY"), NOW)
    page.refresh(NOW)
    browser.wait(lambda: "Why it stopped last" in browser.text)
    stopped = next(line for line in browser.text.split("\n") if "Why it stopped last" in line)
    assert STOP.sentence in stopped


def test_the_log_keeps_the_last_twenty_transitions_newest_first(page: Page, browser):
    for number in range(LOG_LENGTH + 1):
        page.transition(Transition(NOW, f"reason {number};", "monitor", "READY", "ACTIVE", "OPERATOR"))
    page.refresh(NOW)
    browser.wait(lambda: f"reason {LOG_LENGTH};" in browser.text)
    assert "reason 1;" in browser.text
    assert "reason 0;" not in browser.text
    assert browser.text.index(f"reason {LOG_LENGTH};") < browser.text.index("reason 1;")


def test_verdicts_are_counted_by_rule_with_the_newest_uncertainty(page: Page, browser):
    for rule in ("", "", "", "BOUNDS"):
        page.verdict({"rule": rule, "uncertainty": "0.07"})
    page.refresh(NOW)
    browser.wait(lambda: "75.0 %" in browser.text)
    assert "25.0 %" in browser.text
    assert "<b>0.07</b>" in browser.text


def test_what_nodes_say_of_themselves_is_shown(page: Page, browser):
    page.health(Health("policy", "warn", "inference is slow", NOW, {"published": "12"}))
    page.refresh(NOW)
    browser.wait(lambda: "inference is slow" in browser.text)
    assert "published 12" in browser.text


def test_a_flood_of_names_on_diagnostics_does_not_grow_the_page_without_end(page: Page, browser):
    for number in range(MAX_NODES + 1):
        page.health(Health(f"node{number};", "ok", "running", NOW))
    page.health(Health("node0;", "error", "still updated", NOW))
    page.refresh(NOW)
    browser.wait(lambda: f"node{MAX_NODES - 1};" in browser.text)
    assert f"node{MAX_NODES};" not in browser.text
    assert "still updated" in browser.text


def test_the_trial_under_way_is_shown(page: Page, browser):
    page.trial({"episode": "3", "success": "true"})
    page.refresh(NOW)
    browser.wait(lambda: "<b>3</b>" in browser.text)


@pytest.mark.parametrize("label", BUTTONS)
def test_a_button_calls_its_command_once_and_shows_the_answer(page: Page, browser, pressed: list[str], label: str):
    browser.press(label)
    browser.wait(lambda: f"{BUTTONS[label]} was asked for" in browser.text)
    assert pressed == [BUTTONS[label]]


def test_a_slow_answer_blocks_neither_the_page_nor_the_soft_stop(console_config, links, browse):
    release, stopped = threading.Event(), threading.Event()

    def slow() -> str:
        assert release.wait(10.0)
        return "armed at last"

    def stop() -> str:
        stopped.set()
        return "stopped"

    page = Page(console_config, "test", links, (), Commands(slow, slow, stop, slow, slow, {}))
    try:
        with browse(page.url) as browser:
            browser.press("Arm")
            browser.wait(lambda: "<b>Arm:</b> asked, no answer yet" in browser.text)
            browser.press("Soft stop")
            assert stopped.wait(10.0)
            browser.wait(lambda: "<b>Soft stop:</b> stopped" in browser.text)
            page.state("armed", state("ACTIVE"), NOW)
            page.refresh(NOW)
            browser.wait(lambda: ">ACTIVE<" in browser.text)
            release.set()
            browser.wait(lambda: "armed at last" in browser.text)
    finally:
        release.set()
        page.close()


def test_a_command_that_fails_says_so(console_config, links, browse):
    def broken() -> str:
        raise RuntimeError("no bus")

    page = Page(console_config, "test", links, (), Commands(broken, broken, broken, broken, broken, {}))
    try:
        with browse(page.url) as browser:
            browser.press("Home")
            browser.wait(lambda: "failed: RuntimeError" in browser.text)
    finally:
        page.close()


def test_the_recorder_is_shown_with_its_sentence_and_what_it_has_written(page: Page, browser):
    page.recorder("recording episode_000003", {"state": "recording", "written_mb": "12.5"})
    page.refresh(NOW)
    browser.wait(lambda: "recording episode_000003" in browser.text)
    assert "12.5" in browser.text


def test_nobody_looks_until_a_browser_has_the_page_open(page: Page, browse):
    assert not page.watched
    assert not page.wants_picture("front", NOW)
    with browse(page.url) as browser:
        watched(page, browser)
        assert page.wants_picture("front", NOW)


def test_one_picture_per_refresh_is_wanted(page: Page, browser):
    watched(page, browser)
    assert page.wants_picture("front", NOW)
    page.picture(picture(320, 240))
    assert not page.wants_picture("front", NOW)
    assert page.wants_picture("wrist", NOW)
    page.refresh(NOW)
    assert page.wants_picture("front", NOW)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (128, 256),
        (130, 260),
        (131, 131),
        (PICTURE_WIDTHS[1], PICTURE_WIDTHS[1]),
        (PICTURE_WIDTHS[1] + 2, PICTURE_WIDTHS[1] // 2 + 1),
    ],
)
def test_pictures_are_fitted_to_the_page(page: Page, browser, width: int, shown: int):
    watched(page, browser)
    before = browser.picture("front")
    page.picture(picture(width, 20))
    page.refresh(NOW)
    browser.wait(lambda: browser.picture("front") != before)
    pixels = decode(browser.picture("front"))
    assert pixels.shape[1] == shown
    assert np.abs(pixels.astype(int) - 200).max() <= 2


def test_joints_and_object_are_drawn_for_a_browser(page: Page, browser):
    watched(page, browser)
    page.joints({"panda_joint1": 0.5}, NOW)
    page.object_pose(Pose(np.array([0.5, 0.1, 0.02]), np.eye(3)), NOW)
    page.refresh(NOW)
    browser.wait(lambda: browser.nodes["/object"]["visible"])
    turned = next(node for name, node in browser.nodes.items() if name.endswith("/panda_link1"))
    assert turned["wxyz"] == pytest.approx([np.cos(0.25), 0.0, 0.0, np.sin(0.25)])
    page.refresh(NOW + S)
    page.refresh(NOW + S + 1)
    browser.wait(lambda: not browser.nodes["/object"]["visible"])


def test_an_operator_is_told_of_streams_that_fall_silent(page: Page, browser):
    watched(page, browser)
    page.joints({}, NOW)
    assert page.wants_picture("front", NOW)
    page.refresh(NOW + S)
    page.trial({"at": "the limit"})
    page.refresh(NOW + S)
    browser.wait(lambda: "the limit" in browser.text)
    assert "joint states: silent" not in browser.text
    page.refresh(NOW + S + 1)
    browser.wait(lambda: "joint states: silent for 1 s" in browser.text)
    assert "camera front: silent for 1 s" in browser.text
    assert "camera wrist: nothing heard" in browser.text

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from policy_bringup.core import graph
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import ActionChunk, ImageSample, StateSample
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.journal import (
    JOURNAL_FILE,
    Journal,
    Outcome,
    Quality,
    TopicCount,
    load_journal,
    save_journal,
)
from policy_bringup.episodes.layout import bag_path, episode_name
from policy_bringup.episodes.page import write_index, write_page

S = 1_000_000_000
START = 1_700_000_000 * S
EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>"
FRONT, WRIST = "camera/front/image_raw", "camera/wrist/image_raw"
TOPICS = (FRONT, WRIST, "joint_states", "safety/action", "policy/action", "safety/state", "safety/verdict")
VOID = ("meta", "img", "link", "br", "hr", "input")


class Page(HTMLParser):
    """What a browser would find: tags with their attributes, and texts. Refuses tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def chunk(stamp_ns: int, uncertainty: float) -> bytes:
    names = ("tool.x", "tool.rz", "gripper.width", "gripper.force", "odd")
    values = np.array([[0.4, -0.2, 0.05, 20.0, 7.0]])
    return encoding.table(ActionChunk("a", stamp_ns, 0, names, np.zeros(1), values, np.array([uncertainty])), "base")


def messages(seconds: float = 3.0):
    """Topic, bytes, time: the policy drives from 1 s on, and falls back at 2 s."""
    for step in range(round(seconds * 20)):
        t, now = step / 20, START + step * S // 20
        for camera in ("front", "wrist"):
            pixels = np.full((48, 64, 3), step, np.uint8)
            yield f"camera/{camera}/image_raw", encoding.image(ImageSample(now, 0, camera, pixels), camera), now
        none = np.zeros(0)
        sample = StateSample(now, 0, ("panda_joint1", "panda_finger_joint1"), np.array([np.sin(t), 0.02]))
        yield "joint_states", encoding.joint_state(sample, none, none, "base"), now
        yield "policy/action", chunk(now, 0.25), now
        if t >= 1:
            yield "safety/action", chunk(now, 0.0), now
        state = "READY" if t < 1 else "ACTIVE" if t < 2 else "FALLBACK"
        yield "safety/state", encoding.status(now, "safety", "ok", "", {"state": state, "source": "policy"}), now
        if step == 40:
            told = {"state": "FALLBACK", "source": "policy"}
            moved = {"who": "policy", "from": "ACTIVE", "to": "FALLBACK"}
            entries = [("safety", "error", "bad", told), ("transition", "error", f"too fast {EVIL}", moved)]
            yield "safety/verdict", encoding.statuses(now, entries), now


@pytest.fixture
def recorded(tmp_path: Path, journal: Journal) -> Callable[..., Path]:
    def record(number: int = 42, topics=TOPICS, made=None, **changes) -> Path:
        folder = tmp_path / "dataset" / episode_name(number)
        folder.mkdir(parents=True)
        entries = [BagTopic(name, graph.topic(name).type, graph.topic(name).qos) for name in topics]
        writer = BagWriter(folder, entries, {})
        counts = dict.fromkeys(topics, 0)
        for topic, data, now in messages() if made is None else made:
            if topic in counts:
                writer.write(topic, data, now, now)
                counts[topic] += 1
        writer.close({})
        told = {name: TopicCount(count + 3, count, 3, 4) for name, count in counts.items()}
        quality = Quality(False, ("front camera was frozen for 1.2 s",), {"duration_s": 3.0, f"{FRONT} rate_hz": 20.0})
        whole = {"stopped_ns": START + 3 * S, "counts": told, "quality": quality}
        save_journal(folder, replace(journal, **{"episode": number, **whole, **changes}))
        return folder

    return record


def page_of(folder: Path, out: Path) -> Page:
    return Page(write_page(folder, out).read_text(encoding="utf-8"))


def test_a_page_shows_everything_that_is_known_about_an_episode(recorded, tmp_path):
    folder = recorded(outcome=Outcome.SUCCESS, recovered=True, note="the lamp was on")
    page = page_of(folder, tmp_path / "page.html")
    shown = page.text
    for topic in TOPICS:
        assert topic in page.texts, topic
    for word in ("episode_000042", "success", "recovered", "the lamp was on", "front camera was frozen for 1.2 s",
                 "Zoë", "cube, tray", "teleop", "c0ffee", "f00d", "0.3.0", "2023-11-14 22:13:20"):  # fmt: skip
        assert word in shown, word
    for title in ("Joint positions", "Gripper", "Safe action: tool position", "Safe action: tool rotation",
                  "Safe action: gripper force", "Safe action: other columns", "Uncertainty"):  # fmt: skip
        assert title in shown, title
    for curve in ("panda_joint1", "panda_finger_joint1", "gripper.width (commanded)", "tool.x", "tool.rz", "odd"):
        assert curve in shown, curve


def test_the_losses_of_every_topic_are_in_its_row(recorded, tmp_path):
    html = write_page(recorded(), tmp_path / "page.html").read_text()
    row = re.search(rf"<th>{FRONT}</th>(.*?)</tr>", html)[1]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", row)[:5] == ["63", "60", "3", "4", "20.0"]


def test_who_drove_and_the_safety_state_are_bands_over_time(recorded, tmp_path):
    page = page_of(recorded(), tmp_path / "page.html")
    for words in ("READY: 0.00 s to 1.00 s", "ACTIVE: 1.00 s to 2.00 s", "FALLBACK: 2.00 s to 2.95 s"):
        assert words in page.texts
    assert "nobody: 0.00 s to 1.00 s" in page.texts
    assert any(text.startswith("policy: 1.00 s to ") for text in page.texts)
    assert "ACTIVE → FALLBACK" in page.texts


def test_every_camera_has_a_strip_of_a_few_pictures_over_the_whole_time(recorded, tmp_path):
    html = write_page(recorded(), tmp_path / "page.html").read_text()
    strips = re.findall(r'<h2>(\w+) camera</h2><div class="strip">(.*?)</div>', html)
    assert [camera for camera, _ in strips] == ["front", "wrist"]
    for _, strip in strips:
        times = [float(t) for t in re.findall(r"<figcaption>([\d.]+) s", strip)]
        assert len(times) == 12
        assert (times[0], times[-1]) == (0.0, pytest.approx(2.95, abs=0.06))


def test_a_page_loads_nothing_and_runs_nothing(recorded, tmp_path):
    page = page_of(recorded(), tmp_path / "page.html")
    assert {attributes["src"][:23] for attributes in page.all("img")} == {"data:image/jpeg;base64,"}
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed"}
    assert any("default-src 'none'" in (attributes.get("content") or "") for attributes in page.all("meta"))


def test_what_looks_like_a_script_is_shown_as_text(recorded, tmp_path, journal):
    names = ("task", "operator", "driver", "mode", "contract_sha256", "config_sha256", "code_version")
    origin = replace(journal.provenance, objects=(EVIL,), **dict.fromkeys(names, EVIL))
    quality = Quality(False, (EVIL,), {f"{EVIL} rate_hz": 1.0})
    folder = recorded(note=EVIL, provenance=origin, quality=quality, counts={EVIL: TopicCount(1, 1, 0, 0)})
    for path in (write_page(folder, tmp_path / "out"), write_index(folder.parent, tmp_path / "out")):
        page = Page(path.read_text())
        assert "script" not in {tag for tag, _ in page.tags}
        assert not any("onerror" in attributes for _, attributes in page.tags)
        assert EVIL in page.text
    assert f"too fast {EVIL}" in page_of(folder, tmp_path / "out").text


def test_names_that_came_over_a_topic_are_escaped_too(recorded, tmp_path):
    def made():
        for index in range(50):
            now = START + index * S // 50
            none = np.zeros(0)
            sample = StateSample(now, 0, (EVIL, f"{EVIL}finger"), np.array([0.1 * index, 0.02]))
            yield "joint_states", encoding.joint_state(sample, none, none, "base"), now
            values = {"state": EVIL, "source": EVIL}
            yield "safety/state", encoding.status(now, "safety", "ok", EVIL, values), now

    page = page_of(recorded(made=made()), tmp_path / "page.html")
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(EVIL) >= 3


def test_an_episode_that_was_not_judged_and_has_no_pictures_has_a_page(recorded, tmp_path):
    folder = recorded(topics=("joint_states",), quality=None, stopped_ns=None, counts={})
    page = page_of(folder, tmp_path / "page.html")
    assert "Quality: not judged" in page.texts
    assert page.all("img") == []


def test_messages_that_cannot_be_read_are_left_out_and_named(recorded, tmp_path):
    def made():
        for topic, data, now in messages():
            yield topic, data[:30] if topic == FRONT and now > START + S else data, now

    page = page_of(recorded(made=made()), tmp_path / "page.html")
    (problem,) = (text for text in page.texts if "cannot be read" in text)
    assert problem.startswith("front camera: ")
    assert {"front camera", "wrist camera"} <= set(page.texts)


def test_a_topic_of_another_type_is_named(recorded, tmp_path):
    folder = recorded(topics=("joint_states", "safety/state"))
    path = bag_path(folder)
    path.unlink()
    topics = [BagTopic(name, encoding.STATUS, graph.STATE) for name in ("joint_states", "safety/state")]
    writer = BagWriter(folder, topics, {})
    for name in ("joint_states", "safety/state"):
        writer.write(name, encoding.status(START, "safety", "ok", "", {"state": "READY", "source": ""}), START, START)
    writer.close({})
    page = page_of(folder, tmp_path / "page.html")
    assert any("joint states: 1 of the messages looked at cannot be read" in text for text in page.texts)
    assert "READY" in page.text


def test_a_damaged_bag_is_shown_as_far_as_it_goes(recorded, tmp_path):
    folder = recorded()
    path = bag_path(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    page = page_of(folder, tmp_path / "page.html")
    assert any("is damaged" in text for text in page.texts)


@pytest.mark.parametrize("broken", ["bag", "journal"])
def test_an_episode_that_cannot_be_opened_is_named(recorded, tmp_path, broken):
    folder = recorded()
    path = bag_path(folder) if broken == "bag" else folder / JOURNAL_FILE
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(EpisodeError, match="episode_000042"):
        write_page(folder, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(("out", "file"), [("site", "site/episode_000042.html"), ("site/one.html", "site/one.html")])
def test_a_page_goes_into_a_folder_or_to_a_file(recorded, tmp_path, out, file):
    assert write_page(recorded(), tmp_path / out) == tmp_path / file


def test_a_page_that_cannot_be_written_is_named(recorded, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(EpisodeError, match="taken"):
        write_page(recorded(), tmp_path / "taken" / "page.html")


def test_the_index_lists_every_episode_with_its_picture_and_a_link_to_its_page(recorded, tmp_path):
    first, second = recorded(1, outcome=Outcome.SUCCESS), recorded(2, note="x")
    out = tmp_path / "site"
    write_page(first, out)
    done = []
    page = Page(write_index(first.parent, out, done.append).read_text())
    assert done == [first, second]
    assert [link["href"] for link in page.all("a")] == ["episode_000001.html"]
    assert len(page.all("img")) == 2
    assert "2 episodes · 1 failure · 1 success · 2 to redo" in page.texts
    assert page.texts.count("redo because front camera was frozen for 1.2 s") == 2
    assert page.texts.count("49") == 2  # dropped and lost


def test_a_thumbnail_is_the_first_picture_of_the_first_camera(recorded, tmp_path):
    html = write_index(recorded().parent, tmp_path / "site").read_text()
    (data,) = re.findall(r"base64,([^\"]+)", html)
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (48, 64, 3)
    assert pixels.max() < 5


def test_an_episode_that_cannot_be_read_costs_the_index_no_other(recorded, tmp_path):
    good, no_bag, no_journal = recorded(1), recorded(2), recorded(3)
    bag_path(no_bag).unlink()
    (no_journal / JOURNAL_FILE).write_text("[")
    page = Page(write_index(good.parent, tmp_path / "site").read_text())
    assert len(page.all("img")) == 1
    assert any("holds no bag" in text for text in page.texts)
    assert any("is not valid YAML" in text for text in page.texts)
    assert "3 episodes · 2 failure · 2 to redo · 1 unreadable" in page.texts


def test_a_dataset_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EpisodeError, match="nowhere"):
        write_index(tmp_path / "nowhere", tmp_path / "site")


def test_pages_change_nothing_in_the_episode(recorded, tmp_path):
    folder = recorded()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_page(folder, tmp_path / "site")
    write_index(folder.parent, tmp_path / "site")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert load_journal(folder).episode == 42


def test_of_many_reasons_the_index_shows_the_first(recorded, tmp_path):
    quality = Quality(False, ("one", "two", "three", "four"), {})
    page = Page(write_index(recorded(quality=quality).parent, tmp_path / "site").read_text())
    assert "redo because one; two; and 2 more" in page.texts
    assert "1 episode · 1 failure · 1 to redo" in page.texts

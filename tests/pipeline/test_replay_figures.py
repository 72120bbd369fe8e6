from dataclasses import replace

import pytest

from policy_bringup.pipeline.replay import Replayed, ReplayedStop
from policy_bringup.pipeline.replay_figures import totals


def test_totals_add_up():
    stop = ReplayedStop(1.0, "AGE", "too old", "", 0.1, 0.05, 2.0)
    doubt = ReplayedStop(2.0, "UNCERTAINTY", "unsure", "uncertainty", 0.1)
    asked = ReplayedStop(3.0, "OPERATOR", "disarmed", "", 0.0, 0.0)
    good = Replayed("a", "expert", True, 60.0, 30.0, 0.0, (asked,), {}, (), ())
    bad = replace(good, name="b", held_s=3.0, stops=(stop, doubt), refused={"AGE": 2})
    failed = replace(bad, name="c", success=False, not_armed=("why",))
    found = totals([good, bad, failed])
    assert (found.episodes, found.recorded_s, found.armed_s) == (3, 180.0, 90.0)
    assert found.stops == {"AGE": 2, "UNCERTAINTY": 2}
    assert (found.asked, found.deterministic, found.refused) == ({"OPERATOR": 1}, 2, {"AGE": 4})
    assert found.hold_share == pytest.approx(6.0 / 90.0)
    assert found.to_stop_s == pytest.approx((0.15, 0.15))
    assert found.resume_s == (2.0, 2.0)
    assert (found.false_stops.count, found.false_stops.trials) == (1, 2), "a failure's stop is not a false one"
    assert found.not_armed == 1


def test_totals_of_nothing_are_zero():
    assert (totals([]).hold_share, totals([]).to_stop_s, totals([]).false_stops.trials) == (0.0, (), 0)

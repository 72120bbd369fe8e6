from policy_bringup.episodes import input_ring
from policy_bringup.episodes.input_ring import InputRing

MS = 1_000_000
S = 1000 * MS


def items(ring: InputRing, now_ns: int) -> list[object]:
    return [kept.item for kept in ring.last(now_ns)]


def test_what_is_older_than_two_seconds_is_forgotten_to_the_nanosecond():
    ring = InputRing()
    ring.add("joints", 0, "old", 1)
    ring.add("joints", 1, "just inside", 1)
    ring.add("joints", 2 * S + 1, "new", 1)
    assert items(ring, 2 * S + 1) == ["just inside", "new"]
    assert ring.cut(2 * S + 1) == {}  # too old is not too much


def test_a_stream_that_has_fallen_silent_is_forgotten_as_well():
    ring = InputRing()
    ring.add("joints", 0, "last word", 1)
    ring.add("policy/action", 3 * S, "still here", 1)
    assert items(ring, 3 * S) == ["still here"]


def test_what_arrived_after_the_stop_is_kept_too():
    ring = InputRing()
    ring.add("safety/stop", 5 * S, "pressed", 1)
    ring.add("joints", 5 * S + 9 * MS, "a little later", 1)
    assert items(ring, 5 * S) == ["pressed", "a little later"]


def test_a_stream_that_floods_pushes_out_its_own_oldest_inputs_and_nobody_elses():
    ring = InputRing()
    ring.add("joints", 0, "sound", 17)
    for number in range(50):
        ring.add("policy/action", number * MS, number, 1000)
    kept = items(ring, 50 * MS)
    assert kept[0] == "sound"
    assert kept[1:] == list(range(10, 50))  # 40 000 units fit
    assert ring.cut(50 * MS) == {"policy/action": 9 * MS}
    assert ring.cut(2 * S + 10 * MS) == {}  # by now it would be too old anyhow


def test_many_small_inputs_are_bounded_in_number():
    ring = InputRing()
    for number in range(input_ring.MOST_INPUTS + 3):
        ring.add("safety/estop", number, number, 0)
    assert len(ring.last(0)) == input_ring.MOST_INPUTS
    assert ring.cut(10) == {"safety/estop": 2}

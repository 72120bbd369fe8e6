from policy_bringup.nodes.stage_clock import StageClock

MS = 1_000_000


def test_each_stage_is_measured_from_the_end_of_the_one_before():
    clock = StageClock()
    clock.camera(1000 * MS, 1008 * MS)
    clock.policy(1000 * MS, 1010 * MS)
    clock.safety(1000 * MS, 1015 * MS)
    clock.arm(1000 * MS, 1016 * MS)
    assert clock.latencies.samples == {
        "camera": [8.0],
        "policy": [2.0],
        "safety": [5.0],
        "arm": [1.0],
        "total": [16.0],
    }


def test_only_the_first_safe_action_of_a_picture_counts():
    clock = StageClock()
    clock.policy(1000 * MS, 1010 * MS)
    clock.safety(1000 * MS, 1015 * MS)
    clock.safety(1000 * MS, 1025 * MS)
    assert clock.latencies.samples["safety"] == [5.0]


def test_a_command_that_the_arm_made_by_itself_answers_nothing_even_after_the_safe_action():
    clock = StageClock()
    clock.policy(1000 * MS, 1010 * MS)
    clock.safety(1000 * MS, 1015 * MS)
    clock.arm(0, 1016 * MS)
    assert clock.latencies.samples["arm"] == []


def test_a_command_that_answers_an_earlier_safe_action_is_not_credited_to_the_newest():
    clock = StageClock()
    for stamp in (1000, 1050):
        clock.policy(stamp * MS, (stamp + 10) * MS)
        clock.safety(stamp * MS, (stamp + 15) * MS)
    clock.arm(1000 * MS, 1066 * MS)
    clock.arm(1050 * MS, 1068 * MS)
    assert clock.latencies.samples["arm"] == [51.0, 3.0]
    assert clock.latencies.samples["total"] == [66.0, 18.0]


def test_only_the_first_command_that_answers_counts():
    clock = StageClock()
    clock.policy(1000 * MS, 1010 * MS)
    clock.safety(1000 * MS, 1015 * MS)
    clock.arm(1000 * MS, 1017 * MS)
    clock.arm(1000 * MS, 1027 * MS)
    assert clock.latencies.samples["arm"] == [2.0]


def test_a_safe_action_of_an_unknown_picture_is_not_counted():
    clock = StageClock()
    clock.safety(1000 * MS, 1015 * MS)
    assert clock.latencies.samples["safety"] == []


def test_memory_does_not_grow():
    clock = StageClock()
    for i in range(1000):
        clock.camera(i * MS, i * MS)
        clock.policy(i * MS, i * MS)
        clock.safety(i * MS, i * MS)
    assert max(len(clock._camera), len(clock._policy), len(clock._safe)) <= 64

"""What a policy is asked, and when: which streams it reads, at which moments, thinned to its rate.

The policy node and the dataset reader both hand over here what arrives and what was recorded. What comes out depends on
the samples and their stamps alone, not on when they arrived or how many came at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from policy_bringup.core import graph
from policy_bringup.core.latency import UNMEASURED, Latency
from policy_bringup.core.observation import ObservationBuilder
from policy_bringup.core.throttle import Throttle
from policy_bringup.core.types import ImageSample, Observation, ObservationSpec, StateSample

OBJECT_COLUMN = "object.x"


class PolicyInput:
    """The observations of one policy.

    rate_hz: mean rate of the moments. derive: joint sample -> the tool's columns of the same stamp; may raise
    ObservationError for a sample it cannot use. latency: of the cameras, by which their pictures are aligned.
    """

    def __init__(
        self, spec: ObservationSpec, rate_hz: float, derive: Callable[[StateSample], StateSample],
        latency: Latency = UNMEASURED,
    ) -> None:  # fmt: skip
        self.cameras = tuple(image.camera for image in spec.images)
        self.reads_object = OBJECT_COLUMN in spec.names
        self._derive = derive
        self._latency_ns = {camera: latency.camera_ns(camera) for camera in self.cameras}
        self._builder = ObservationBuilder(
            spec, graph.topic("camera/{camera}/image_raw").stale_s, graph.topic("joint_states").stale_s
        )
        self._throttle = Throttle(rate_hz)
        self._last_ns = 0

    def add_picture(self, sample: ImageSample) -> None:
        """Takes a picture in, as of the moment that it shows."""
        late_ns = self._latency_ns.get(sample.camera, 0)
        self._builder.add_image(replace(sample, stamp_ns=sample.stamp_ns - late_ns) if late_ns else sample)

    def add_joints(self, sample: StateSample) -> None:
        """Takes a joint state in, and the tool pose that follows from it. Raises ObservationError, taking neither."""
        tool = self._derive(sample)
        self._builder.add_state("joint_states", sample)
        self._builder.add_state("tool", tool)

    def add_object(self, sample: StateSample) -> None:
        """Takes a pose of the object in (core.decoding.pose_sample with the prefix "object")."""
        self._builder.add_state("object", sample)

    def due(self) -> tuple[int, ...]:
        """The moments to ask the policy at that became complete since the last call, ROS time in ns, oldest first."""
        newest_ns = self._builder.complete_until()
        if newest_ns is None or newest_ns < self._last_ns:  # no longer complete, or the clock was set back
            self._last_ns = newest_ns or 0
            return ()
        moments = self._builder.complete_after(self._last_ns)
        self._last_ns = newest_ns
        return tuple(moment for moment in moments if self._throttle.due(moment))

    def build(self, stamp_ns: int) -> Observation:
        """The observation of a moment. Raises ObservationError naming the stream that cannot serve it."""
        return self._builder.build(stamp_ns)

"""Errors that end in one clear sentence for the person who can act on it."""


class PolicyBringupError(Exception):
    """Base of every error this project raises on purpose: its text says what, where and what is allowed."""


class ConfigError(PolicyBringupError):
    """A configuration file is missing, or a key in it is unknown, missing or out of bounds."""


class ContractError(PolicyBringupError):
    """A policy bundle and the robot it is meant for disagree; the bundle is refused."""


class ObservationError(PolicyBringupError):
    """The streams cannot give the observation that was asked for (absent, too old, wrong shape)."""


class NoSolution(PolicyBringupError):
    """Inverse kinematics found no joint position for the pose within its tolerances and limits."""


class DeviceError(PolicyBringupError):
    """A device (camera, gamepad, renderer) is absent, busy or broken."""


class ChunkRefused(PolicyBringupError):
    """A policy's chunk came too late or would make the robot jump."""


class EpisodeError(PolicyBringupError):
    """A recording is damaged, foreign, or lacks what was asked for."""


class MeasurementError(PolicyBringupError):
    """A measurement cannot give a number: nothing moved, or what should follow does not."""


class LearningError(PolicyBringupError):
    """Training, or what it needs, is wrong: frames that do not fit, a run of other settings, numbers that blew up."""

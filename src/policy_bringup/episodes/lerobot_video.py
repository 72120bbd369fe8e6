"""Pictures as mp4 video and back: many clips of one camera, one after the other, in files of limited size.

PyAV's logging is left as it is, silent: hooked into Python, a decoder's thread that logs while the decoder is being
closed waits for the interpreter, and the interpreter for it, forever.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import Pixels
from policy_bringup.episodes.lerobot_layout import MEGABYTE, VIDEO_FILE_MB, VIDEO_PATH, Place, library

CodecName = Literal["h264", "av1"]
PIXEL_FORMAT = "yuv420p"
_BT601 = 5  # the matrix that decoders take where none is named; named, no player has to guess
_GROUP = "2"  # every second picture stands alone: any one is found after decoding at most two


@dataclass(frozen=True, slots=True)
class Encoding:
    """How videos are compressed. crf: 0 to 51 (h264) or 63 (av1), lower is better."""

    codec: CodecName = "h264"
    crf: int = 18

    def __post_init__(self) -> None:
        best = {"h264": 51, "av1": 63}
        if self.codec not in best or not 0 <= self.crf <= best[self.codec]:
            raise EpisodeError(
                f"video encoding {self.codec}, crf {self.crf}: allowed are h264 with 0 to 51, av1 with 0 to 63"
            )

    @property
    def encoder(self) -> str:
        """The encoder's name."""
        return "libx264" if self.codec == "h264" else "libsvtav1"

    @property
    def options(self) -> dict[str, str]:
        """What the encoder is told."""
        common = {"g": _GROUP, "crf": str(self.crf)}
        # Without B pictures, times start at zero and rise: no player's edit list shifts the frames.
        return common | ({"preset": "veryfast", "bf": "0"} if self.codec == "h264" else {"preset": "12"})


@dataclass(frozen=True, slots=True)
class Clip:
    """Where an episode's pictures are: in which file, and from which of its pictures on."""

    place: Place
    first: int
    length: int


class ClipWriter:
    """The video files of one camera. Height and width as in the contract, fps a whole number."""

    def __init__(self, root: Path, key: str, size: tuple[int, int], fps: int, encoding: Encoding) -> None:
        height, width = size
        if height % 2 or width % 2:
            raise EpisodeError(f"{key}: a video needs even sides, and the pictures are {width}x{height}")
        self._root, self._key, self._size, self._fps, self._encoding = root, key, size, fps, encoding
        self._place = Place()
        self._container: Any = None
        self._stream: Any = None
        self._pictures = self._bytes = 0

    def add(self, pictures: Pixels) -> Clip:
        """Appends an episode's pictures, uint8 `(T, height, width, 3)`."""
        # A file that would outgrow the limit, were this episode like those before it, is left as it is.
        expected = self._bytes * len(pictures) // max(self._pictures, 1)
        if self._container is not None and self._bytes + expected >= VIDEO_FILE_MB * MEGABYTE:
            self.close()
            self._place = self._place.following()
        if self._container is None:
            self._open()
        clip = Clip(self._place, self._pictures, len(pictures))
        frame_class = library("av").VideoFrame
        for picture in pictures:
            frame = frame_class.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            # AREA: each colour sample is the mean of its four pixels, which loses least.
            frame = frame.reformat(format=PIXEL_FORMAT, dst_colorspace=_BT601, interpolation="AREA")
            frame.pts, frame.time_base = self._pictures, Fraction(1, self._fps)
            self._mux(self._stream.encode(frame))
            self._pictures += 1
        return clip

    def close(self) -> None:
        """Completes the file that is open."""
        if self._container is not None:
            self._mux(self._stream.encode())
            self._container.close()
        self._container = None
        self._pictures = self._bytes = 0

    def describe(self) -> dict[str, Any]:
        """What info.json says about the videos."""
        height, width = self._size
        return {
            "video.height": height,
            "video.width": width,
            "video.codec": self._encoding.codec,
            "video.pix_fmt": PIXEL_FORMAT,
            "video.is_depth_map": False,
            "video.fps": self._fps,
            "video.channels": 3,
            "has_audio": False,
        }

    def _open(self) -> None:
        path = self._root / self._place.path(VIDEO_PATH, self._key)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("SVT_LOG", "1")  # else the AV1 encoder tells the terminal about itself
        self._container = library("av").open(str(path), "w")
        self._stream = self._container.add_stream(self._encoding.encoder, self._fps, options=self._encoding.options)
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = PIXEL_FORMAT
        self._stream.codec_context.time_base = Fraction(1, self._fps)
        self._stream.codec_context.colorspace = _BT601

    def _mux(self, packets: Any) -> None:
        self._bytes += sum(packet.size for packet in packets)
        self._container.mux(packets)


def read_clip(path: Path, start_s: float, fps: float, length: int) -> Pixels:
    """`length` pictures from `start_s` on, uint8 `(length, height, width, 3)`. Raises EpisodeError."""
    pictures: Pixels | None = None
    missing = set(range(length))
    try:
        with library("av").open(str(path)) as container:
            stream = container.streams.video[0]
            container.seek(round(start_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                index = round((frame.time - start_s) * fps)
                if index in missing:
                    pixels = frame.to_ndarray(format="rgb24")
                    if pictures is None:
                        pictures = np.empty((length, *pixels.shape), np.uint8)
                    pictures[index] = pixels
                    missing.discard(index)
                if not missing:
                    break
    except EpisodeError:
        raise
    except Exception as error:  # whatever the decoder of a damaged file raises
        raise EpisodeError(f"{path}: cannot be read as a video ({' '.join(str(error).split())})") from error
    if pictures is None or missing:
        raise EpisodeError(f"{path}: {len(missing)} of {length} pictures from {start_s:.3f} s on are missing")
    return pictures


def read_picture(content: bytes, where: str) -> Pixels:
    """A PNG or JPEG picture, uint8 `(height, width, 3)`. Raises EpisodeError naming `where`."""
    try:
        with library("av").open(io.BytesIO(content)) as container:
            pixels: Pixels = next(container.decode(video=0)).to_ndarray(format="rgb24")
    except EpisodeError:
        raise
    except Exception as error:  # whatever the decoder of a damaged picture raises
        raise EpisodeError(f"{where}: holds a picture that cannot be read ({error})") from error
    return pixels


@dataclass(frozen=True, slots=True)
class Loss:
    """What the video took from a camera's pictures: mean absolute error in grey levels (of 255), sampled.

    mean: over all sampled pictures; worst: of the worst one.
    """

    mean: float
    worst: float

    @classmethod
    def of(cls, errors: Mapping[str, list[float]]) -> dict[str, Loss]:
        """From camera -> error of each sampled picture."""
        return {camera: cls(float(np.mean(each)), max(each)) for camera, each in errors.items() if each}


def picture_error(original: Pixels, decoded: Pixels) -> float:
    """Mean absolute difference, grey levels."""
    return float(np.abs(original.astype(np.int16) - decoded).mean())

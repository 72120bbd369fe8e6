"""What is known about the ways to learn a policy, as data: where each claim comes from stands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence. source: the command that measures it, the paper, or what the judgement rests on."""

    text: str
    kind: Literal["measured", "literature", "judgement"]
    source: str


@dataclass(frozen=True, slots=True)
class Method:
    """One way to learn. passes: over the data in one training; cost: of a picture against bc_spatial's.

    success: as for the situation at hand, how its success differs from plain behavioural cloning's, in points (low,
    high); claims: why one would use it.
    """

    words: str
    passes: float
    cost: float
    success: tuple[int, int]
    claims: tuple[Claim, ...]


def _paper(text: str, source: str) -> Claim:
    return Claim(text, "literature", source)


MANDLEKAR = "Mandlekar et al. 2021, What Matters in Learning from Offline Human Demonstrations (robomimic)"
ZHAO = "Zhao et al. 2023, Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware (ACT)"
CHI = "Chi et al. 2023, Diffusion Policy"
ROSS = "Ross, Gordon, Bagnell 2011, A Reduction of Imitation Learning to No-Regret Online Learning (DAgger)"
LEVINE = "Levine et al. 2016, End-to-End Training of Deep Visuomotor Policies"
HANSEN = "Hansen et al. 2023, On Pre-Training for Visuo-Motor Control"
LIN = "Lin et al. 2024, Data Scaling Laws in Imitation Learning for Robotic Manipulation"
LUO = "Luo et al. 2024, Precise and Dexterous Robotic Manipulation via Human-in-the-Loop RL (HIL-SERL)"
DOSOVITSKIY = "Dosovitskiy et al. 2021, An Image is Worth 16x16 Words (ViT)"
JANG = "Jang et al. 2021, BC-Z"
BROHAN = "Brohan et al. 2022, RT-1"

PICTURES_PER_S = 116.0
"""Trained per second by a small convolutional network with spatial softmax: 2 CPU cores, 128x128, batches of 64."""
GPU_FACTOR = 40.0
"""How much faster a graphics card is assumed to train."""
RATE = Claim(
    f"The time is arithmetic: passes x moments x cameras over {PICTURES_PER_S:.0f} pictures per second on 2 CPU cores "
    f"for bc_spatial, more for larger networks, a graphics card {GPU_FACTOR:.0f} times as fast; within a factor of two",
    "judgement",
    "one plain training loop on 2 CPU cores, untuned; every training run prints its own rate",
)

METHODS: Mapping[str, Method] = {
    "bc_cnn": Method(
        "behavioural cloning, small convolutional network", 10, 0.7, (0, 0),
        (_paper("A shallow network trained from scratch with shift augmentation keeps up with frozen pre-trained "
                "features", HANSEN),),
    ),
    "bc_spatial": Method(
        "behavioural cloning, convolutional network with spatial softmax", 10, 1.0, (0, 0),
        (_paper("Feature points find an object's place better than other heads: a pose error of 1.30 cm, against 4.75 "
                "cm with a fully connected and 3.71 cm with a max-pooling head", LEVINE),),
    ),
    "bc_resnet": Method(
        "behavioural cloning, ResNet18", 10, 8.0, (0, 0),
        (_paper("A ResNet18 trained end to end, without pre-training, is the image encoder of one of the strongest "
                "imitation learners", CHI),),
    ),
    "bc_vit": Method(
        "behavioural cloning, vision transformer", 30, 10.0, (-10, 0),
        (_paper("Without pre-training on very many pictures a transformer falls behind a ResNet of its size",
                DOSOVITSKIY),),
    ),
    "bc_cnn_lstm": Method(
        "behavioural cloning with a memory (LSTM)", 15, 2.0, (0, 5),
        (_paper("With demonstrations by people, policies with a memory (BC-RNN) do better than those without",
                MANDLEKAR),),
    ),
    "act": Method(
        "action chunking with transformers (ACT)", 400, 12.0, (0, 10),
        (_paper("Chunks of actions shorten the horizon over which errors add up: 80 to 90 % success at fine two-armed "
                "tasks from 50 demonstrations (10 minutes)", ZHAO),
         _paper("One training took about 5 hours on one RTX 2080 Ti", ZHAO)),
    ),
    "diffusion": Method(
        "diffusion policy", 300, 15.0, (0, 10),
        (_paper("It keeps several ways of doing a thing apart where regression averages them, and beat the methods "
                "before it by 46.9 % on average over 12 tasks", CHI),),
    ),
    "dagger": Method(
        "more data where the policy itself goes (DAgger)", 10, 1.0, (5, 15),
        (_paper("The cost of cloning grows with the square of the episode's length, since its errors lead to states "
                "that nobody showed; corrected in its own states, it grows linearly", ROSS),),
    ),
    "bc_rl": Method(
        "cloning first, then reinforcement learning", 10, 1.0, (5, 20),
        (_paper("With demonstrations, a person who corrects and a measured reward, near-perfect success after 1 to 2.5 "
                "hours on the robot, twice that of imitation alone on average", LUO),),
    ),
    "multi_task": Method(
        "one policy for several tasks, told which", 30, 8.0, (-20, 0),
        (_paper("One policy reached 97 % over more than 700 instructions, from 130,000 demonstrations", BROHAN),
         _paper("On 24 tasks that it had not been shown, one trained on 100 others reached 44 %", JANG)),
    ),
}  # fmt: skip
"""By the name that a training configuration gives."""

BASE: tuple[tuple[int, tuple[int, int]], ...] = (
    (0, (0, 0)), (1, (0, 30)), (10, (15, 70)), (50, (50, 90)), (200, (75, 98)), (1000, (85, 99)),
)  # fmt: skip
"""From so many demonstrations on, percent success (low, high) of cloning one short task with room for 2 cm of error."""
BASE_CLAIMS = (
    _paper("With 200 demonstrations by one good operator, from pictures: about 100 % at lifting a cube and at sorting "
           "a can, 78 % at fitting a nut, 70 % at a two-armed hand-over", MANDLEKAR),
    _paper("With 50 demonstrations: 80 to 90 % at fine two-armed tasks, but 20 % at the hardest of them", ZHAO),
    Claim("The ranges between and beyond these points, and what they lose for harder tasks, are read off by eye",
          "judgement", "the points above"),
)  # fmt: skip
HARDER: Mapping[str, tuple[int, int]] = {
    "precise": (-30, -10), "long_horizon": (-25, -5), "moving": (-20, -5), "varied": (-25, -5), "multimodal": (-10, 0),
}  # fmt: skip
"""What a harder task changes, in points (low, high)."""

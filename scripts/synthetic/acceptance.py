"""Which figures of a model on synthetic people must be reached, and how they are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from options.config import ANGLES


@dataclass(frozen=True)
class Threshold:
    """A figure that must be reached. Of several names the worst counts; `minus`: the loss against those figures."""

    title: str
    names: tuple[str, ...]
    bound: float
    at_most: bool = False
    minus: tuple[str, ...] = ()

    def value(self, figures: Mapping[str, float]) -> float:
        """The figure, or the drop from `minus` to `names`."""
        if self.minus:
            return max(figures[before] - figures[after] for before, after in zip(self.minus, self.names, strict=True))
        values = [figures[name] for name in self.names]
        return max(values) if self.at_most else min(values)


def _both(prefix: str) -> tuple[str, str]:
    return f"{prefix}/mean", f"{prefix}/pooled"


# A model that copies the reference's pose has a high pooled correlation, because people differ more than moments do;
# one that has every mouth move equally little has a high mean. So the worse of the two counts.
THRESHOLDS = (
    Threshold("sync retrieval at 1 of 32", ("sync/audio_to_visual", "sync/visual_to_audio"), 0.80),
    Threshold("mouth opening, own sound", _both("self/opening"), 0.93),
    Threshold("mouth width, own sound", _both("self/width"), 0.85),
    Threshold("yaw of the pose source, own or another's", (*_both("self/yaw"), *_both("cross/yaw")), 0.95),
    Threshold("pitch of the pose source, own or another's", (*_both("self/pitch"), *_both("cross/pitch")), 0.95),
    Threshold("roll of the pose source, own or another's", (*_both("self/roll"), *_both("cross/roll")), 0.85),
    Threshold("blink of the pose source, own or another's", (*_both("self/blink"), *_both("cross/blink")), 0.70),
    Threshold("drop of the mouth, pose swapped", _both("pose_swapped/opening"), 0.1, True, _both("self/opening")),
    Threshold("drop of the yaw, sound swapped", _both("audio_swapped/yaw"), 0.1, True, _both("self/yaw")),
    Threshold("mouth opening in silence", ("silence/mean_opening",), 0.03, True),
    Threshold("SSIM, own sound and pose", ("self/ssim",), 0.77),
    Threshold("sharpness (CPBD), share of the truth's", ("self/cpbd_share",), 0.75),
    Threshold("identity by the probe, share of the truth's", ("self/identity/share",), 0.95),
    Threshold("landmark distance of the mouth, px", ("self/lmd",), 1.5, True),
    Threshold("yaw of a programme", ("directed/yaw/correlation",), 0.95),
    Threshold("pitch of a programme", ("directed/pitch/correlation",), 0.90),
    Threshold("roll of a programme", ("directed/roll/correlation",), 0.85),
    Threshold("least gain of yaw, pitch and roll", tuple(f"directed/{angle}/gain" for angle in ANGLES), 0.8),
    Threshold("largest gain of yaw, pitch and roll", tuple(f"directed/{angle}/gain" for angle in ANGLES), 1.2, True),
    Threshold("a still head's motion, px", ("directed/still_px",), 0.5, True),
    Threshold("opening after real speakers' sound", ("real/mean",), 0.50),
)


def judge(figures: Mapping[str, float]) -> list[dict[str, Any]]:
    """Every threshold with its value, whether it is reached, and by how much (negative: so much is missing)."""
    lines = []
    for threshold in THRESHOLDS:
        if not set(threshold.names) <= figures.keys():  # real clips were not asked for
            continue
        value = threshold.value(figures)
        margin = threshold.bound - value if threshold.at_most else value - threshold.bound
        sign = "<" if threshold.at_most else ">="
        reached = margin > 0 if threshold.at_most else margin >= 0
        lines.append(
            {"title": threshold.title, "value": value, "bound": f"{sign} {threshold.bound}", "margin": margin}
            | {"reached": reached}
        )
    return lines


def table(figures: Mapping[str, float], acceptance: Sequence[Mapping[str, Any]]) -> str:
    """Both as Markdown."""
    lines = ["| acceptance | value | wanted | |", "|---|---|---|---|"]
    for line in acceptance:
        verdict = "reached" if line["reached"] else f"**not reached, by {-line['margin']:.3f}**"
        lines.append(f"| {line['title']} | {line['value']:.3f} | {line['bound']} | {verdict} |")
    lines += ["", "| figure | value |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in figures.items()]
    return "\n".join(lines) + "\n"

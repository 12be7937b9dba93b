"""What a synthetic person is made of: all parts of the mesh, from head to shoulders."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from data.synthetic.clothes import make_clothes
from data.synthetic.hair import cap_relief, curtain_surface, make_locks, paint_cap, paint_curtain
from data.synthetic.maths import smoothstep
from data.synthetic.mesh import Part, make_part
from data.synthetic.paint import (
    Canvas,
    Paint,
    SkinPainter,
    beard_relief,
    paint_ear,
    paint_teeth,
    paint_throat,
    paint_tongue,
)
from data.synthetic.person import LONG_STYLES, Identity
from data.synthetic.scene import Scene
from data.synthetic.surface import (
    COLUMN_ANGLES,
    MOUTH_LINE,
    ROW_KNOTS,
    ear_surface,
    head_surface,
    outward,
    teeth_surface,
    tongue_surface,
)
from data.synthetic.wear import Lens, headwear_relief, make_earrings, make_glasses, make_headwear, paint_headwear

_HEAD_TEXELS = (350, 330)
HEAD, NECK, THROAT, TONGUE, UPPER_TEETH, LOWER_TEETH = range(6)  # places in the list of parts


@dataclass(frozen=True)
class Figure:
    """The parts of a person; from number `first_lock` on they are locks of hair. Lenses are no part of the mesh."""

    parts: list[Part]
    first_lock: int
    lenses: list[Lens]


def make_figure(who: Identity, scene: Scene, slit_columns: int) -> Figure:
    """Builds everything; `slit_columns`: vertices along the slit of the mouth, on which the throat hangs."""
    head = make_part(
        partial(_covered_head, who), COLUMN_ANGLES, ROW_KNOTS, _HEAD_TEXELS, partial(_paint_covered_head, who)
    )
    neck, *collars = make_clothes(who, scene)
    frame, lenses = make_glasses(who)
    parts = [head, neck, *_mouth(who, slit_columns), *_ears(who), *collars]
    parts += [*frame, *make_headwear(who), *make_earrings(who), *_curtain(who)]
    locks = make_locks(who)
    return Figure(parts if locks is None else [*parts, locks], len(parts), lenses)


def _covered_head(who: Identity, angle: np.ndarray, row: np.ndarray) -> np.ndarray:
    """The head with beard, hair and hat."""
    skin = head_surface(who, angle, row)
    thickness = beard_relief(who, np.abs(skin[..., 0]), skin[..., 1], row - MOUTH_LINE, skin[..., 2])
    thickness = thickness + headwear_relief(who, angle, row, cap_relief(who, angle, row))
    return skin + outward(skin) * thickness[..., None]


def _paint_covered_head(who: Identity, canvas: Canvas) -> Paint:
    return paint_headwear(who, canvas, paint_cap(who, canvas, SkinPainter(who, canvas).paint()))


def _mouth(who: Identity, slit_columns: int) -> list[Part]:
    """Throat, tongue and teeth."""
    line = np.linspace
    throat = make_part(
        _throat_surface, line(-1, 1, slit_columns), line(0, 1, 4), (24, 24), paint_throat, two_sided=True
    )
    tongue = make_part(tongue_surface, line(-1, 1, 7), line(0, 1, 6), (24, 24), paint_tongue, two_sided=True, jaw=0.72)
    teeth = []
    for upper, along, jaw in ((True, line(0, 1, 3), 0.0), (False, line(1, 0, 3), 0.80)):
        painter = partial(paint_teeth, upper, 1 - 0.6 * who.age)
        teeth.append(make_part(partial(teeth_surface, upper), line(-1, 1, 11), along, (30, 100), painter, jaw=jaw))
    return [throat, tongue, *teeth]


def _throat_surface(across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Anything: the throat follows the lips in every frame."""
    return np.stack([across, along, 0 * across], axis=-1)


def _ears(who: Identity) -> list[Part]:
    if who.headwear in ("scarf", "headphones"):
        return []
    across, along, painter = np.linspace(0, 1, 8), np.linspace(0.02, 0.98, 12), partial(paint_ear, who)
    return [
        make_part(partial(ear_surface, who, side), across[::side], along, (56, 44), painter, two_sided=True)
        for side in (-1, 1)
    ]


def _curtain(who: Identity) -> list[Part]:
    """What lies below the locks of long hair."""
    if who.hair_style not in LONG_STYLES or who.headwear in ("scarf", "turban"):
        return []
    surface, painter = partial(curtain_surface, who), partial(paint_curtain, who)
    across, along = np.linspace(1, -1, 25), np.linspace(0, 1, 14)
    return [make_part(surface, across, along, (160, 260), painter, two_sided=True, body=_hanging)]


def _hanging(position: np.ndarray) -> np.ndarray:
    """Long hair lies on the shoulders at its ends."""
    return 0.85 * smoothstep(85, 150, position[..., 1])
